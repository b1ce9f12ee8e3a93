import { describe, expect, test } from 'vitest'
import type { FactLimit } from '../../simulation/oracles/facts.js'
import { agentLimit, FactBook } from '../../support/fact-book.js'

const BUCKET = agentLimit({ kind: 'bucket', perSecond: 10, burst: 1 })
const SLOTS = agentLimit({ kind: 'slots', slots: 1, leaseMs: 2000 })
const stuck = (book: FactBook) => book.reports('never stuck').map(({ text }) => text)

/** Calls that are all asked for at 0, and start at these times. */
function line(limit: FactLimit | FactLimit[], startsMs: readonly number[], book = new FactBook(...[limit].flat())): FactBook {
  for (const [index, startMs] of startsMs.entries()) book.done(`k${index}`, startMs, {}, { ms: 5 })
  return book.note({ fact: 'queue', atMs: 100_000, queue: 'calls', state: 'resumed' })
}

const every = (ms: number, count: number, fromMs = 0) => Array.from({ length: count }, (_, index) => fromMs + index * ms)

describe('a call', () => {
  test('that starts soon after it has room is not late', () => {
    expect(stuck(line(BUCKET, [0, 100, 450, 550]))).toEqual([])
  })

  test('that starts long after it had room is late', () => {
    const [text] = stuck(line(BUCKET, [0, 100, 600]))
    expect(text).toMatch(
      /^k2 could start for 400 ms \(had room in account\/bucket of a, was first, and a worker had a place\), and starts then; 300 ms are allowed \(no participant is sick\)/,
    )
  })

  test('that never starts is reported at the end', () => {
    const book = line(BUCKET, [0, 100]).call('never', { atMs: 200 })
    expect(stuck(book)[0]).toMatch(/^never could start for 99800 ms .* and never starts/)
  })

  test('that is not first is not late, and the first one is', () => {
    const book = new FactBook(BUCKET).done('a', 0).call('first', { atMs: 1 }).call('second', { atMs: 2 }).run('first', 900).run('second', 1000)
    expect(stuck(book).map((text) => text.split(' ')[0])).toEqual(['first'])
  })

  test('of a higher priority is first though it comes later', () => {
    const book = new FactBook(BUCKET).done('a', 0).call('low', { atMs: 1 }).call('high', { atMs: 2, priority: 1 }).run('high', 100).run('low', 200)
    expect(stuck(book)).toEqual([])
  })

  test('without a worker, or a place, waits for that', () => {
    const alone = (book: FactBook) => stuck(book.done('a', 0).done('b', 5100, { atMs: 100 }))
    expect(alone(new FactBook(BUCKET))).toHaveLength(1)
    expect(alone(new FactBook(BUCKET).worker('w', 50, 'gone').worker('v', 5000))).toEqual([])
    expect(
      alone(
        new FactBook(BUCKET)
          .worker('w', 50, 'gone')
          .worker('v', 60, 'up', 1)
          .done('long', 70, { scopes: { agent: 'b' } }, { by: 'v', ms: 5000 }),
      ),
    ).toEqual([])
    expect(
      alone(
        new FactBook(BUCKET)
          .note({ fact: 'queue', atMs: 50, queue: 'calls', state: 'paused' })
          .note({ fact: 'queue', atMs: 5000, queue: 'calls', state: 'resumed' }),
      ),
    ).toEqual([])
  })

  test('whose worker never got the answer that hands it the job waits until its lock has ended', () => {
    const late = (ms: number, process: string) =>
      stuck(
        new FactBook(BUCKET)
          .done('a', 0)
          .done('b', ms, { atMs: 1 })
          .note({ fact: 'handed', atMs: 90, call: 'b', to: 'w' })
          .note({ fact: 'handed', atMs: ms - 1, call: 'b', to: 'w' })
          .fault('repeated send', 91, { process }),
      )
    expect(late(15_000, 'w')).toEqual([])
    expect(late(18_000, 'w')).toHaveLength(1)
    expect(late(15_000, 'v')).toHaveLength(1)
  })

  test('that is paused waits for that', () => {
    const paused = (org: string) =>
      stuck(
        new FactBook(BUCKET)
          .done('a', 0, { scopes: { agent: 'a', org: 'x' } })
          .done('b', 5100, { atMs: 100, scopes: { agent: 'a', org: 'x' } })
          .fault('pause', 50, { untilMs: 5000, scopes: { org } }),
      )
    expect(paused('x')).toEqual([])
    expect(paused('y')).not.toEqual([])
  })

  test('does not wait for a call that another meter holds', () => {
    const org: FactLimit = { name: 'org/requests', by: ['org'], unit: 'requests', form: { kind: 'bucket', perSecond: 0.1, burst: 1 } }
    const book = new FactBook(BUCKET, org)
    book.done('x0', 0, { scopes: { agent: 'a', org: 'x' } })
    book.done('x1', 10_000, { scopes: { agent: 'a', org: 'x' } })
    expect(stuck(book.done('y', 700, { atMs: 1, scopes: { agent: 'a', org: 'y' } })).map((text) => text.split(' ')[0])).toEqual(['y'])
  })
})

test('a call before it that another rule refuses may keep the room of a call, for a second', () => {
  const shared: FactLimit = { name: 'account/window', by: ['agent'], unit: 'requests', form: { kind: 'fixed window', limit: 2, windowMs: 20_000 } }
  const own = (perSecond: number): FactLimit => ({ name: 'org/requests', by: ['org'], unit: 'requests', form: { kind: 'bucket', perSecond, burst: 1 } })
  const of = (org: string, atMs: number) => ({ atMs, scopes: { agent: 'a', org } })
  const late = (perSecond: number, takenMs: number, first: number, second: number) =>
    stuck(new FactBook(shared, own(perSecond)).done('x0', 0, of('x', 0)).done('x1', takenMs, of('x', first)).done('y', 20_000, of('y', second)))
  expect(late(1.5, 670, 1, 2)).toEqual([])
  expect(late(1.5, 670, 2, 1)).toHaveLength(1)
  expect(late(0.5, 2000, 1, 2)).toHaveLength(1)
})

describe('room', () => {
  test('comes back when a call costs less than its estimate', () => {
    const tokens = agentLimit({ kind: 'sliding log', limit: 100, windowMs: 10_000 }, 'tokens')
    const second = (startMs: number, actual: number) =>
      stuck(
        new FactBook(tokens)
          .done('a', 0, { costs: { tokens: 100 } }, { actual: { tokens: actual } })
          .done('b', startMs, { atMs: 10, costs: { tokens: 50 } }, { actual: { tokens: 50 } }),
      )
    expect(second(10_000, 100)).toEqual([])
    expect(second(10_000, 40)).not.toEqual([])
    expect(second(200, 40)).toEqual([])
  })

  test('of a slot comes back at the end of its run', () => {
    const second = (startMs: number) => stuck(new FactBook(SLOTS).done('a', 0, {}, { ms: 1000 }).done('b', startMs, { atMs: 1 }))
    expect(second(1200)).toEqual([])
    expect(second(1500)).not.toEqual([])
  })

  test('of a slot of a dead process comes back with its lease', () => {
    const second = (startMs: number) =>
      stuck(
        new FactBook(SLOTS)
          .worker('v', 0)
          .done('a', 0, {}, { by: 'v', ends: false })
          .fault('death', 100, { process: 'v' })
          .done('b', startMs, { atMs: 50_000 }),
      )
    expect(second(50_200)).toEqual([])
    expect(second(50_500)).not.toEqual([])
  })

  test('that flows over while calls wait is lost', () => {
    expect(stuck(line(BUCKET, every(104, 40)))).toEqual([])
    const lost = stuck(line(BUCKET, every(120, 40)))
    expect(lost).toHaveLength(1)
    expect(lost[0]).toMatch(/^account\/bucket of a lost 16\.\d % of its room in \d+ ms while calls waited that could start; \d+\.\d % are allowed/)
  })

  test('is not lost in a bucket that is not full, nor before the first call had to wait', () => {
    expect(stuck(line(agentLimit({ kind: 'bucket', perSecond: 10, burst: 5 }), [0, 0, 0, 0, 0, ...every(100, 20, 250)]))).toEqual([])
  })

  test('that calls lose is what they would have taken: a call that its worker keeps from all others loses its own', () => {
    const bucket = agentLimit({ kind: 'bucket', perSecond: 10, burst: 1 })
    const kept = (calls: number) => {
      const book = new FactBook(bucket).worker('v', 0).done('first', 0).fault('stop', 10, { process: 'w', untilMs: 9000 })
      for (let index = 0; index < calls; index++) book.done(`k${index}`, 10_000 + 100 * index, { atMs: 5 })
      return stuck(book).filter((text) => text.includes('lost'))
    }
    expect(kept(1)).toEqual([])
    expect(kept(100)).toHaveLength(1)
  })

  test('that came back before a bucket was made slower may count by the new rate', () => {
    const bucket = (perSecond: number) => agentLimit({ kind: 'bucket', perSecond, burst: 5 })
    const fifth = (startMs: number) => {
      const book = line(bucket(10), [0, 0, 0, 0, 0], new FactBook(bucket(10))).limits(400, bucket(1))
      for (const [index, atMs] of [4000, 4000, 4000, 4000, startMs].entries()) book.done(`later ${index}`, atMs, { atMs: 4000 })
      return stuck(book)
    }
    expect(fifth(5000)).toEqual([])
    expect(fifth(5500)).toHaveLength(1)
  })

  test('is not looked for in the time of a change of limits', () => {
    const larger = agentLimit({ kind: 'bucket', perSecond: 1000, burst: 100 })
    const book = (startMs: number) => line(BUCKET, [0, 100, startMs], new FactBook(BUCKET).limits(110, larger))
    expect(stuck(book(1700))).toEqual([])
    expect(stuck(book(6000))).not.toEqual([])
  })
})

describe('a sick participant', () => {
  test('may cost others a while, and no more', () => {
    const beside = (startMs: number) => line(BUCKET, [0, 100, startMs]).fault('removed job', 50, { call: 'k9' }).call('k9')
    expect(stuck(beside(2000))).toEqual([])
    expect(stuck(beside(2500))).not.toEqual([])
  })

  test('that shares no meter costs nothing', () => {
    const beside = line(BUCKET, [0, 100, 800])
      .call('k9', { scopes: { agent: 'b' } })
      .fault('removed job', 50, { call: 'k9' })
    expect(stuck(beside)).not.toEqual([])
  })

  test('that holds a call may keep it until its lease is over, one call for each of its places', () => {
    const held = (count: number) => {
      const book = new FactBook(agentLimit({ kind: 'bucket', perSecond: 10, burst: 10 })).worker('v', 0, 'up', 1)
      book.fault('death', 20, { process: 'v' })
      for (let index = 0; index < count; index++) book.done(`k${index}`, 12_000, { outcome: 'run' })
      return stuck(book)
    }
    expect(held(1)).toEqual([])
    expect(held(2)).toHaveLength(1)
  })

  test('is an agent that refuses: its calls are not judged, and those of others are', () => {
    const book = (agent: string) =>
      new FactBook(BUCKET, { ...BUCKET, name: 'org/requests', by: ['org'] })
        .done('back', 0, { scopes: { agent: 'a', org: 'x' } }, { how: 'sent back', actual: {}, reported: false })
        .done('late', 3000, { atMs: 100, scopes: { agent, org: 'x' } })
    expect(stuck(book('a'))).toEqual([])
    expect(stuck(book('b'))).toHaveLength(1)
  })

  test('is a Redis that is away: nothing can start then', () => {
    const away = (untilMs: number) => stuck(line(BUCKET, [0, 100, 5300]).fault('redis away', 150, { untilMs }))
    expect(away(5000)).toEqual([])
  })
})

test('a waiter of acquire does not keep the calls of the queue from the room it cannot use', () => {
  const org: FactLimit = { name: 'org/requests', by: ['org'], unit: 'requests', form: { kind: 'bucket', perSecond: 0.1, burst: 1 } }
  const scopes = { agent: 'a', org: 'x' }
  const book = new FactBook(BUCKET, org).done('a', 0, { scopes }).done('waiter', 10_000, { atMs: 1, door: 'acquire', scopes })
  // Its answer comes with its grant.
  const facts = book.facts.map((fact) => (fact.fact === 'answered' && fact.call === 'waiter' ? { ...fact, atMs: 10_001 } : fact))
  const queue = (startMs: number) => {
    const other = new FactBook()
    other.facts.splice(0, other.facts.length, ...facts)
    return stuck(other.done('b', startMs, { atMs: 2, scopes: { agent: 'a', org: 'y' } }))
  }
  expect(queue(150)).toEqual([])
  expect(queue(1000).map((text) => text.split(' ')[0])).toEqual(['b'])
})

test('what is recorded beyond a window is paid by the windows to come', () => {
  const window = agentLimit({ kind: 'sliding window', limit: 2, windowMs: 1000 })
  const recorded = (door: 'record' | 'gate', book = new FactBook(window).done('a', 0).done('b', 0)) =>
    stuck(book.call('r', { door, atMs: 500, outcome: 'run' }).run('r', 500).done('waits', 2600, { atMs: 600 }))
  expect(recorded('record')).toEqual([])
  expect(recorded('gate').join()).toMatch(/waits could start for/)
})

describe('an agent that refuses', () => {
  const refusing = (atMs: number, book = new FactBook(BUCKET).done('a', 0)) => {
    book.call('refused', { atMs: 1 }).call('next', { atMs: 2 }).run('refused', atMs, { how: 'sent back' })
    return book
  }
  const end = (book: FactBook) => book.note({ fact: 'queue', atMs: 100_000, queue: 'calls', state: 'resumed' })

  test('is asked again soon after it may be', () => {
    expect(stuck(end(refusing(100).run('next', 1500).run('refused', 1700)))).toEqual([])
  })

  test('and is not asked again is reported', () => {
    expect(stuck(end(refusing(100).run('next', 9000).run('refused', 9200))).join()).toMatch(/no call starts for \d+ ms after agent a refused refused/)
  })
})
