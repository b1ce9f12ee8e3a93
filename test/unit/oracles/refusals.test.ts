import { expect, test } from 'vitest'
import type { FactLimit } from '../../simulation/oracles/facts.js'
import { agentLimit, FactBook } from '../../support/fact-book.js'

const BUCKET = agentLimit({ kind: 'bucket', perSecond: 1000, burst: 1000 })
const LIMITER: FactLimit = { name: '~~by-user/by-user', by: ['ip'], unit: 'requests', form: { kind: 'bucket', perSecond: 1, burst: 2 } }

test('no call starts whose scopes are paused', () => {
  const paused = (startMs: number, door: 'queue' | 'limiter' = 'queue') =>
    new FactBook(BUCKET)
      .fault('pause', 1000, { scopes: { org: 'x' }, untilMs: 6000 })
      .done('a', startMs, { door, scopes: { agent: 'a', org: 'x' } })
      .done('b', 4000, { scopes: { agent: 'a', org: 'y' } })
      .reports('never over')
      .map(({ text }) => text)
  expect(paused(900)).toEqual([])
  // Every process knows of it after a moment.
  expect(paused(2400)).toEqual([])
  expect(paused(6100)).toEqual([])
  expect(paused(4000, 'limiter')).toEqual([])
  expect(paused(4000)).toEqual(['a is charged 3000 ms after its calls were paused, for 5000 ms'])
})

test('a limiter refuses no call that has room', () => {
  const by = (call: string, atMs: number, outcome: 'run' | 'refused') => ({ call, atMs, outcome })
  const refused = (...calls: ReturnType<typeof by>[]) => {
    const book = new FactBook(LIMITER)
    for (const { call, atMs, outcome } of calls) {
      book.call(call, { atMs, answeredMs: atMs + 2, outcome, door: 'limiter', scopes: { ip: 'u1' } })
      if (outcome === 'run') book.run(call, atMs)
    }
    return book.reports('never stuck').map(({ text }) => text)
  }
  expect(refused(by('a', 0, 'run'), by('b', 1, 'run'), by('c', 500, 'refused'))).toEqual([])
  expect(refused(by('a', 0, 'run'), by('b', 1, 'run'), by('c', 1100, 'refused'))).toEqual([
    'c was refused by a limiter, and had room in ~~by-user/by-user of u1',
  ])
  // One that is under way may have taken the room.
  expect(refused(by('a', 0, 'run'), by('b', 401, 'run'), by('c', 400, 'refused'))).toEqual([])
})

test('a call that its agent refuses always keeps no other call waiting, and one that waits no more is kept from nothing', () => {
  const found = (more: (book: FactBook) => void) => {
    const book = new FactBook(BUCKET)
      .fault('agent refuses always', 900, { call: 'r', scopes: { agent: 'a' } })
      .call('r')
      .call('b')
    for (const atMs of [1000, 1500, 6000]) book.run('r', atMs, { how: 'sent back', actual: {}, reported: false, retryAfterMs: 200 })
    more(book)
    return book.reports('never stuck').filter(({ text }) => text.includes('again and again'))
  }
  expect(found((book) => book.run('b', 6500).result('b', 6600)).map(({ text }) => text)).toEqual([
    'b waits, and no call of agent a starts for 5000 ms, while the agent refuses r again and again',
  ])
  expect(found((book) => book.run('b', 2500).result('b', 2600))).toEqual([])
  expect(found((book) => book.fault('cancel', 700, { call: 'b' }).result('b', 710, 'cancelled'))).toEqual([])
  expect(found((book) => book.fault('removed job', 700, { call: 'b' }))).toEqual([])
})
