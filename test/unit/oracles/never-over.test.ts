import { describe, expect, test } from 'vitest'
import type { FactLimit, Form } from '../../simulation/oracles/facts.js'
import { agentLimit, BOUNDS, FactBook } from '../../support/fact-book.js'

const BUCKET = agentLimit({ kind: 'bucket', perSecond: 10, burst: 2 })
const SLOTS = agentLimit({ kind: 'slots', slots: 1, leaseMs: 2000 })
const TOKENS = agentLimit({ kind: 'bucket', perSecond: 100, burst: 100 }, 'tokens')
const over = (book: FactBook) => book.reports('never over').map(({ text }) => text)

/** Starts one call at each time. */
function starts(limits: FactLimit | FactLimit[], ...timesMs: number[]): FactBook {
  const book = new FactBook(...[limits].flat())
  for (const [index, atMs] of timesMs.entries()) book.done(`k${index}`, atMs)
  return book
}

describe('an agent with limits of its own', () => {
  const cases: [Form, number[], number[]][] = [
    [{ kind: 'bucket', perSecond: 10, burst: 2 }, [0, 0, 100, 200], [0, 0, 90]],
    [{ kind: 'leaky bucket', perSecond: 10 }, [0, 100, 200], [0, 95]],
    [{ kind: 'fixed window', limit: 2, windowMs: 1000 }, [998, 999, 1000, 1001], [0, 500, 998]],
    [{ kind: 'sliding log', limit: 2, windowMs: 1000 }, [0, 600, 1000, 1600], [0, 600, 999]],
    [{ kind: 'sliding window', limit: 2, windowMs: 1000 }, [0, 600, 1000, 1600], [0, 600, 999]],
  ]
  test.each(cases)('%j takes what fits and no more', (form, fits, exceeds) => {
    expect(over(starts(agentLimit(form), ...fits))).toEqual([])
    expect(over(starts(agentLimit(form), ...exceeds))).toHaveLength(1)
  })

  test('names the limit, the excess and the call', () => {
    const [report] = starts(BUCKET, 0, 0, 50).reports('never over')
    expect(report).toMatchObject({ atMs: 50, calls: ['k2'] })
    expect(report?.text).toMatch(/^account\/bucket of a \(bucket, 10\/s, burst 2\) is exceeded by 0\.500/)
  })

  test('counts by value, and only calls that the limit covers', () => {
    const x: FactLimit = { ...BUCKET, by: ['agent', 'org'], where: { org: ['x'] } }
    const book = (...orgs: string[]) => orgs.reduce((facts, org, index) => facts.done(`k${index}`, 0, { scopes: { agent: 'a', org } }), new FactBook(x))
    expect(over(book('y', 'y', 'y'))).toEqual([])
    expect(over(book('x', 'x', 'y'))).toEqual([])
    expect(over(book('x', 'x', 'x'))).toHaveLength(1)
  })

  test('counts runs in the mode that the limit is for', () => {
    const degraded = (mode: 'normal' | 'degraded') =>
      [0, 0, 0].reduce((book, atMs, index) => book.done(`k${index}`, atMs, {}, { degraded: true }), new FactBook({ ...BUCKET, mode }))
    expect(over(degraded('normal'))).toEqual([])
    expect(over(degraded('degraded'))).toHaveLength(1)
  })
})

describe('costs', () => {
  const token = (cost: number, actual: number, ms = 20) => ({ wait: { costs: { tokens: cost } }, run: { actual: { tokens: actual }, ms } })
  const tokens = (...calls: [atMs: number, cost: number, actual: number, ms?: number][]) => {
    const book = new FactBook(TOKENS)
    for (const [index, [atMs, cost, actual, ms]] of calls.entries()) book.done(`k${index}`, atMs, token(cost, actual).wait, token(cost, actual, ms).run)
    return book
  }

  test('count as they really were, at the start', () => {
    expect(over(tokens([0, 100, 30], [50, 70, 70]))).toEqual([])
    expect(over(tokens([0, 100, 30], [50, 80, 80]))).toHaveLength(1)
  })

  test('above the estimate are debt: it may exceed the limit, and nothing starts while it does', () => {
    expect(over(tokens([0, 50, 150]))).toEqual([])
    expect(over(tokens([0, 50, 150], [700, 1, 1]))).toEqual([])
    expect(over(tokens([0, 50, 150], [200, 1, 1]))).toHaveLength(1)
    // Known when its end is reported, not before.
    expect(over(tokens([0, 50, 150], [90, 1, 1]))).toEqual([])
  })

  test('that a process records while it takes Redis to be away are reported but for a tenth', () => {
    const recorded = (unchecked: boolean, startMs: number) =>
      over(new FactBook(agentLimit({ kind: 'bucket', perSecond: 1, burst: 1 })).done('r', 0, { door: 'record' }, { unchecked }).done('a', startMs))
    expect(recorded(false, 1020)).toEqual([])
    expect(recorded(false, 950)).toHaveLength(1)
    expect(recorded(true, 950)).toEqual([])
    expect(recorded(true, 800)).toHaveLength(1)
  })

  test('of a call that was sent back or released are nothing', () => {
    for (const how of ['sent back', 'released'] as const) {
      const book = new FactBook(BUCKET)
      for (let index = 0; index < 5; index++) book.done(`k${index}`, 0, {}, { how, actual: {} })
      expect(over(book)).toEqual([])
    }
  })

  test('that were not told, or whose end is not known, are the estimate', () => {
    const book = (run: object) =>
      new FactBook(TOKENS)
        .done('k0', 0, { costs: { tokens: 60 } }, { actual: { tokens: 10 }, ...run })
        .done('k1', 10, { costs: { tokens: 60 } }, { actual: { tokens: 60 } })
    expect(over(book({ reported: true }))).toEqual([])
    expect(over(book({ reported: false }))).toHaveLength(1)
    expect(over(book({ ends: false }))).toHaveLength(1)
  })
})

describe('the time of a start', () => {
  test('is that of the charge, if the start follows within a step', () => {
    expect(over(new FactBook(BUCKET).done('a', 0).done('b', 0).done('c', 100, {}, { startedMs: 180 }).done('d', 200))).toEqual([])
  })

  test('is a fault of its own if the start comes later, or before', () => {
    expect(over(new FactBook(BUCKET).done('a', 0, {}, { startedMs: 101 }))).toEqual([
      'a reached its agent 101.0 ms after its charge; 100 ms are allowed in w, which was not disturbed',
    ])
    expect(over(new FactBook(BUCKET).done('a', 10, {}, { startedMs: 5 }))).toEqual(['a reached its agent 5.0 ms before it was charged; the charge comes first'])
  })

  test('is the charge all the same where its process stood still', () => {
    const book = () => new FactBook(BUCKET).done('a', 0).done('b', 0).done('c', 100, {}, { startedMs: 900 }).done('d', 900).done('e', 900)
    expect(over(book().fault('stop', 110, { process: 'w', untilMs: 890 }))).toEqual([])
    expect(over(book().fault('stop', 110, { process: 'v', untilMs: 890 }))).not.toEqual([])
  })

  test('is either of the two of a command that Redis did twice', () => {
    const book = (...others: string[]) => others.reduce((facts, call) => facts.done(call, 100), new FactBook(BUCKET).done('a', 100, {}, { firstMs: 0 }))
    expect(over(book('b', 'c'))).toEqual([])
    expect(over(book('b', 'c', 'd'))).toHaveLength(1)
  })

  test('may be up to a step earlier where no fact tells the charge', () => {
    const untold = (...timesMs: number[]) =>
      timesMs.reduce((book, atMs, index) => book.done(`k${index}`, atMs, {}, { chargedMs: null, startedMs: atMs }), new FactBook(BUCKET))
    expect(over(untold(0, 0, 1))).toEqual([])
    expect(over(untold(0, 0, 0, 0))).toHaveLength(1)
    // Beside a slow network it may be far earlier.
    expect(over(untold(0, 0, 0, 0).fault('slow network', 0, { untilMs: 500 }))).toEqual([])
    expect(over(untold(0, 0, 0, 0).fault('stop', 0, { process: 'v', untilMs: 500 }))).toHaveLength(1)
  })
})

describe('changes', () => {
  const larger = agentLimit({ kind: 'bucket', perSecond: 10, burst: 4 })
  test('count as they are seen: the larger limit for as long as some process may use it', () => {
    const book = (atMs: number) => [0, 0, 0, 0].reduce((facts, _, index) => facts.done(`k${index}`, atMs), new FactBook(larger).limits(5000, BUCKET))
    expect(over(book(4000))).toEqual([])
    expect(over(book(6000))).toEqual([])
    expect(over(book(7000))).toHaveLength(2)
  })

  test('lift a limit for the keys of an override', () => {
    const lifted: FactLimit = { ...BUCKET, forms: { a: null } }
    expect(over(starts(lifted, 0, 0, 0))).toEqual([])
    expect(over(starts({ ...BUCKET, forms: { b: null } }, 0, 0, 0))).toHaveLength(1)
  })

  test('of Redis to an older state may cost what it forgot, and no more', () => {
    const book = (...timesMs: number[]) => starts(BUCKET, ...timesMs).fault('failover', 1040, { lostFromMs: 1000 })
    expect(over(book(1010, 1020, 1050, 1060))).toEqual([])
    expect(over(book(1010, 1020, 1050, 1060, 1070))).toHaveLength(1)
    expect(over(book(990, 1020, 1050, 1060))).toHaveLength(1)
  })

  test('of Redis to an older state leave each charge under the limits of its time', () => {
    const halved = (...timesMs: number[]) => {
      const early = Array.from({ length: 50 }, (_, index) => index * 100)
      const slower = agentLimit({ kind: 'bucket', perSecond: 1, burst: 2 })
      return starts(BUCKET, ...early, ...timesMs)
        .limits(5000, slower)
        .fault('failover', 10_000, { lostFromMs: 9990 })
    }
    expect(over(halved(10_050, 10_060))).toEqual([])
    expect(over(halved(9980, 10_050, 10_060))).toHaveLength(1)
  })
})

describe('slots', () => {
  const two = (first: object, secondMs: number) => new FactBook(SLOTS).done('a', 0, {}, { ms: 5000, ...first }).done('b', secondMs)
  test('are as many as runs at once', () => {
    expect(over(two({}, 5002))).toEqual([])
    expect(over(two({}, 4000))).toEqual(['account/slots of a has 2 runs at once with the start of b; 1 are allowed'])
  })

  test('come free by themselves where their holder was silent for long', () => {
    const stopped = (untilMs: number) => two({}, 4000).fault('stop', 500, { process: 'w', untilMs })
    expect(over(stopped(1000))).toHaveLength(1)
    expect(over(stopped(3000))).toEqual([])
  })

  test('of a process that died are free', () => {
    expect(over(two({ by: 'v', ends: false }, 4000).fault('death', 1000, { process: 'v' }))).toEqual([])
  })

  test('of a call that is cancelled are free, whatever its handler does', () => {
    const cancelled = (atMs: number) => two({}, 4000).fault('cancel', atMs, { call: 'a' })
    expect(over(cancelled(1000))).toEqual([])
    expect(over(cancelled(4500))).toHaveLength(1)
  })

  test('are not looked at by a process that takes Redis to be away', () => {
    const local = (unchecked: boolean) =>
      new FactBook(SLOTS).done('a', 1200, { door: 'gate', outcome: 'run' }).done('b', 1210, { door: 'gate', outcome: 'run' }, { unchecked })
    const away = (book: FactBook) => over(book.fault('redis away', 500, { untilMs: 900 }))
    expect(away(local(true))).toEqual([])
    expect(away(local(false))).toHaveLength(1)
    expect(over(local(true))).toHaveLength(1)
  })

  test('of a grant without a worker end with their lease', () => {
    const grant = (ms: number) => new FactBook(SLOTS).done('a', 0, { door: 'gate', outcome: 'run' }, { ms: 5000 }).done('b', ms)
    expect(over(grant(1900))).toHaveLength(1)
    expect(over(grant(2100))).toEqual([])
  })
})

test('a healthy fleet of many calls is never over', () => {
  const book = new FactBook(BUCKET)
  for (let index = 0; index < 2000; index++) book.done(`k${index}`, index * 100 + 5)
  expect(book.reports(undefined, BOUNDS).filter(({ oracle }) => oracle === 'never over')).toEqual([])
})

test('windows follow the clock of Redis: where that was set, they begin at other times', () => {
  const window = agentLimit({ kind: 'fixed window', limit: 2, windowMs: 1000 })
  const overs = (byMs: number, ...startsMs: number[]) => {
    const book = new FactBook(window).fault('redis clock', 500, { byMs })
    for (const [index, atMs] of startsMs.entries()) book.done(`k${index}`, atMs, { atMs: 100 })
    return book.reports('never over').length
  }
  expect(overs(0, 1800, 1900, 2000, 2100)).toBe(0)
  expect(overs(0, 2200, 2300, 2400, 2500)).toBe(2)
  // By its clock 2350 is 2000.
  expect(overs(-350, 2200, 2300, 2400, 2500)).toBe(0)
  expect(overs(-350, 1800, 1900, 2000, 2100)).toBe(2)
})
