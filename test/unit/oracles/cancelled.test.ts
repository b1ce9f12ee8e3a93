import { expect, test } from 'vitest'
import { agentLimit, FactBook } from '../../support/fact-book.js'

const BUCKET = agentLimit({ kind: 'bucket', perSecond: 1000, burst: 1000 })

/** A call is cancelled at 100, and its app is told that it is. */
function cancelled(took = true): FactBook {
  return new FactBook(BUCKET).call('a').fault('cancel', 100, { call: 'a' }).note({ fact: 'cancelled', atMs: 101, call: 'a', took })
}

const lost = (book: FactBook) => book.reports('nothing lost').map(({ text }) => text)

test('a call that is cancelled has the result cancelled', () => {
  expect(lost(cancelled().result('a', 102, 'cancelled'))).toEqual([])
  expect(lost(cancelled().run('a', 50, { ms: 3000, how: 'failed' }).result('a', 3100, 'failed'))).toEqual([
    'a is told to be cancelled, and has the result failed',
  ])
})

test('a call that is cancelled does not start any more', () => {
  expect(lost(cancelled().run('a', 150).result('a', 200))).toEqual([])
  expect(lost(cancelled().run('a', 400).result('a', 450))).toEqual(['a starts 299 ms after its app was told that it is cancelled'])
})

test('a call that had finished goes on having its result', () => {
  expect(lost(cancelled(false).run('a', 400).result('a', 450))).toEqual([])
})

test('a worker that stands still may not hear of it', () => {
  expect(lost(cancelled().fault('stop', 90, { process: 'w', untilMs: 2000 }).run('a', 400).result('a', 450))).toEqual([])
})
