import { describe, expect, test } from 'vitest'
import type { FactLimit } from '../../simulation/oracles/facts.js'
import { agentLimit, FactBook } from '../../support/fact-book.js'

const END_MS = 60_000
const BUCKET = agentLimit({ kind: 'bucket', perSecond: 1000, burst: 1000 })
const BUDGET: FactLimit = { name: 'budget/usd', by: ['org'], unit: 'usd', form: { kind: 'fixed window', limit: 1000, windowMs: 86_400_000 } }
const quiet = (book: FactBook) => book.reports('quiet').map(({ text }) => text)

describe('keys', () => {
  const left = (key: string, ttlMs: number | null, book = new FactBook(BUCKET).done('a', 0)) =>
    quiet(book.note({ fact: 'key left', atMs: END_MS, key, type: 'string', ttlMs }))

  test.each([
    '/l/account/a',
    '/s/slots/a',
    '/lines',
    '/passes',
    '/deadlines',
    '/c/calls/17',
    ':calls:wait',
    ':calls:active',
    ':calls:delayed',
    ':calls:17:lock',
  ])('%s is gone when no call is under way', (key) => {
    expect(left(key, 7 * 86_400_000)).toHaveLength(1)
    expect(left(`{tollgate:n}${key}`, 7 * 86_400_000)).toHaveLength(1)
  })

  test.each([
    ['/rules', null],
    ['/audit', null],
    ['/figures', 30 * 86_400_000],
    ['/queued', 30 * 86_400_000],
    ['/m/account/a', 900],
    [':calls:meta', null],
    [':calls:completed', null],
    [':calls:17', null],
    [':calls:marker', null],
  ] as const)('%s may stay', (key, ttlMs) => {
    expect(left(key, ttlMs)).toEqual([])
  })

  test('all but configuration have an end', () => {
    expect(left('/m/account/a', null)).toEqual(['the key /m/account/a (string) has no end'])
    expect(left('/members', null)).toHaveLength(1)
  })

  test('of a meter end when it equals an empty one', () => {
    expect(left('/m/account/a', 2900)).toEqual([])
    expect(left('/m/account/a', 3100)).toEqual(['the key /m/account/a (string) ends in 3100 ms; what it remembers counts for 1000 ms at most'])
  })

  test('of a meter whose rule was withdrawn may be as late as what calls in line had claimed there', () => {
    const day = (ttlMs: number, ...later: (typeof BUCKET)[]) =>
      left('/m/account/a', ttlMs, new FactBook(agentLimit({ kind: 'fixed window', limit: 4, windowMs: 86_400_000 })).limits(10, ...later))
    expect(day(87_700_000)).toEqual([])
    expect(day(87_800_000)).toHaveLength(1)
    expect(day(87_700_000, BUCKET)).toHaveLength(1)
  })

  test('of a ledger stay while a run is open', () => {
    expect(left('/g/x', 80_000_000)).toEqual(['the key /g/x (string) is a ledger, and every run was settled'])
    expect(left('/c/~/x', 80_000_000)).toHaveLength(1)
    expect(left('/g/x', 80_000_000, new FactBook(BUCKET).call('a').run('a', 0, { ends: false }))).toEqual([])
  })

  test('of calls stay while their queue has no worker', () => {
    expect(left(':calls:delayed', null, new FactBook(BUCKET).worker('w', 10, 'gone').call('a'))).toEqual([])
    expect(left('/passes', null, new FactBook(BUCKET).worker('w', 10, 'gone').call('a'))).not.toContain('is left')
  })
})

describe('usage', () => {
  const org = { scopes: { agent: 'a', org: 'x' }, costs: { usd: 10 } }
  const spent = (used: number, book: FactBook, claimed = 0) => quiet(book.note({ fact: 'usage', atMs: END_MS, limit: 'budget/usd', key: 'x', used, claimed }))
  const one = (run: object = {}) => new FactBook(BUDGET).done('a', 0, org, { actual: { usd: 4 }, ...run })

  test('is what was really spent, and the estimate where that was not told', () => {
    expect(spent(4, one())).toEqual([])
    expect(spent(10, one())).toEqual(['budget/usd of x has 10 used; its runs sum up to 4'])
    expect(spent(10, one({ reported: false }))).toEqual([])
    expect(spent(10, one({ ends: false }).fault('death', 50, { process: 'w' }))).toEqual([])
    expect(spent(0, one({ how: 'sent back', reported: false }))).toEqual([])
    expect(spent(4, one({ how: 'released', actual: {} }))).toHaveLength(1)
  })

  test('may be either where the report may have been lost', () => {
    const died = () => one({ ms: 100 }).fault('death', 150, { process: 'w' })
    expect(spent(4, died())).toEqual([])
    expect(spent(10, died())).toEqual([])
    expect(spent(3, died())).toHaveLength(1)
  })

  test('misses what a failover forgot', () => {
    expect(spent(0, one().fault('failover', 50, { lostFromMs: 0 }))).toEqual([])
    expect(spent(0, one().fault('failover', 5000, { lostFromMs: 4000 }))).toHaveLength(1)
    // What a process lets in by itself is in Redis when it has reported it.
    expect(spent(0, one({ unchecked: true }).fault('failover', 5000, { lostFromMs: 4000 }))).toEqual([])
    expect(spent(0, one({ unchecked: true }).fault('failover', 25_000, { lostFromMs: 24_000 }))).toHaveLength(1)
  })

  test('claims nothing, and holds no slot', () => {
    expect(spent(4, one(), 1)).toEqual(['budget/usd of x has 1 claimed, and no call waits'])
    const slots = agentLimit({ kind: 'slots', slots: 2, leaseMs: 2000 })
    const held = (used: number) => quiet(new FactBook(slots).done('a', 0).note({ fact: 'usage', atMs: END_MS, limit: slots.name, key: 'a', used, claimed: 0 }))
    expect(held(0)).toEqual([])
    expect(held(1)).toEqual(['account/slots of a has 1 slots taken, and nothing runs'])
  })

  test('of a bucket is refilled', () => {
    const lacks = (used: number) =>
      quiet(new FactBook(BUCKET).done('a', 0).note({ fact: 'usage', atMs: END_MS, limit: BUCKET.name, key: 'a', used, claimed: 0 }))
    expect(lacks(0)).toEqual([])
    expect(lacks(1)).toHaveLength(1)
  })
})

describe('the ledger', () => {
  const ledger = (open: number, settled: number, released: number, book = new FactBook(BUCKET).done('a', 0).done('b', 1)) =>
    quiet(book.note({ fact: 'ledger', atMs: END_MS, open, settled, released, expired: 0 }))

  test('has one entry for each run', () => {
    expect(ledger(0, 2, 0)).toEqual([])
    expect(ledger(0, 1, 1)).toEqual(['the ledger has 1 released entries; 0 charges at most were given back'])
    expect(ledger(0, 1, 0)).toHaveLength(1)
    expect(ledger(0, 3, 0)).toHaveLength(2)
    expect(ledger(1, 1, 0)).toHaveLength(1)
  })

  test('tells what was settled from what was given back', () => {
    const refused = () => new FactBook(BUCKET).done('a', 0).call('b').run('b', 1, { how: 'sent back', actual: {} })
    expect(ledger(0, 1, 1, refused())).toEqual([])
    expect(ledger(0, 2, 0, refused())).toHaveLength(2)
  })

  test('has one entry for a start whose reply was lost, and one end', () => {
    const again = () => new FactBook(BUCKET).done('a', 0).fault('repeated send', 2, { process: 'w' }).fault('cut', 300, { process: 'w' })
    expect(ledger(0, 1, 0, again())).toEqual([])
    expect(ledger(1, 1, 0, again())).toHaveLength(2)
    expect(ledger(0, 2, 0, again())).toHaveLength(2)
  })

  test('may know more and less than agents where faults were made', () => {
    expect(ledger(0, 3, 0, new FactBook(BUCKET).done('a', 0).fault('death', 500, { process: 'v' }))).toEqual([])
    expect(ledger(-1, 1, 0, new FactBook(BUCKET).done('a', 0).fault('death', 500, { process: 'v' }))).toHaveLength(1)
  })
})
