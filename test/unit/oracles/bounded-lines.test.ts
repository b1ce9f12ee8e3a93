import { expect, test } from 'vitest'
import { agentLimit, FactBook } from '../../support/fact-book.js'

const BUCKET = agentLimit({ kind: 'bucket', perSecond: 1, burst: 1 })
const reports = (book: FactBook) => book.reports('line bounded').map(({ text }) => text)
const bounded = { boundedBy: { line: 'account of a', most: 2 } }

/** Calls that come one after the other, and start a second apart, the first one at once. */
function line(count: number, book = new FactBook(BUCKET)): FactBook {
  for (let n = 0; n < count; n++) book.call(`k${n}`, { ...bounded, atMs: n, outcome: n === 0 ? 'run' : 'wait' }).run(`k${n}`, 1000 * n)
  return book
}

test('as many calls as the rule allows wait', () => {
  expect(reports(line(3))).toEqual([])
})

test('one more is reported, also where all of them came at once', () => {
  expect(reports(line(4))).toEqual(['k3 got a place in line behind 2 calls; account of a lets 2 wait'])
  const together = new FactBook(BUCKET)
  for (const [n, call] of ['a', 'b', 'c'].entries()) together.call(call, { ...bounded, answeredMs: 5 }).run(call, 1000 * (n + 1))
  expect(reports(together)).toHaveLength(1)
})

test('a call that is woken has left its line, and so has one that ended', () => {
  const woken = new FactBook(BUCKET).call('a', bounded).run('a', 1000).call('b', bounded).run('b', 2000)
  expect(reports(woken.call('c', { ...bounded, atMs: 950 }).run('c', 3000))).toEqual([])
  const ended = new FactBook(BUCKET).call('a', bounded).call('b', bounded).note({ fact: 'result', atMs: 400, call: 'b', how: 'cancelled' })
  expect(reports(ended.run('a', 1000).call('c', { ...bounded, atMs: 500 }))).toEqual([])
})

test('a line that is refused as full was full', () => {
  const refused = (waiting: number) =>
    line(waiting)
      .call('no', { ...bounded, atMs: 10, outcome: 'refused' })
      .note({ fact: 'answered', atMs: 10, call: 'no', outcome: 'refused', code: 'LINE_FULL' })
  const last = (book: FactBook) => {
    book.facts.splice(
      book.facts.findIndex((fact) => fact.fact === 'answered' && fact.call === 'no' && fact.code === undefined),
      1,
    )
    return reports(book)
  }
  expect(last(refused(3))).toEqual([])
  expect(last(refused(2))).toEqual(['no was refused since the line of account of a is full; at most 1 calls waited, and 2 may'])
})

test('once something disturbs the fleet, what stands in line does not follow from facts', () => {
  expect(reports(line(4, new FactBook(BUCKET).fault('stop', 1, { process: 'w' })))).toEqual([])
  expect(reports(line(4, new FactBook(BUCKET).fault('stop', 5000, { process: 'w' })))).toHaveLength(1)
})
