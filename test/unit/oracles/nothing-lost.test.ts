import { describe, expect, test } from 'vitest'
import { agentLimit, BOUNDS, FactBook } from '../../support/fact-book.js'

const BUCKET = agentLimit({ kind: 'bucket', perSecond: 1000, burst: 1000 })
const facts = () => new FactBook(BUCKET)
const lost = (book: FactBook) => book.reports('nothing lost').map(({ text }) => text)
const twice = (book: FactBook) => book.reports('nothing twice').map(({ text }) => text)

describe('nothing lost', () => {
  test('each accepted call has a result, or a run that is done', () => {
    expect(lost(facts().done('a', 0))).toEqual([])
    expect(lost(facts().call('a').run('a', 0))).toEqual([])
    expect(lost(facts().call('a'))).toEqual(['a was accepted, and has neither a result nor a run that is done'])
    expect(lost(facts().call('a').run('a', 0, { ends: false }))).toHaveLength(1)
  })

  test('an app that lives is answered', () => {
    const asked = facts().call('a')
    const [answered] = asked.facts.splice(-1)
    expect(answered?.fact).toBe('answered')
    expect(lost(asked)).toEqual(['a was asked for by an app that lives, and never answered'])
    expect(lost(asked.fault('death', 10, { process: 'app' }))).toEqual([])
  })

  test('a refused call never runs', () => {
    expect(lost(facts().call('a', { outcome: 'refused' }))).toEqual([])
    expect(lost(facts().call('a', { outcome: 'refused' }).run('a', 0))).toHaveLength(1)
  })

  test('a call that may have been taken in may run or not', () => {
    expect(lost(facts().call('a', { outcome: 'unknown' }))).toEqual([])
    expect(lost(facts().call('a', { outcome: 'unknown' }).run('a', 0))).toEqual([])
  })

  test('a call whose app died runs all the same', () => {
    const died = (book: FactBook) => lost(book.fault('death', 10, { process: 'app' }))
    expect(died(facts().call('a'))).toEqual(['a was accepted before its app died, and no run of it has ended'])
    expect(died(facts().call('a').run('a', 20))).toEqual([])
    expect(died(facts().call('a', { deadlineMs: 500 }))).toEqual([])
  })

  test('an operator may take a call away, and a failover may forget it', () => {
    expect(lost(facts().call('a').fault('removed job', 10, { call: 'a' }))).toEqual([])
    expect(lost(facts().call('a', { atMs: 300 }).fault('failover', 400, { lostFromMs: 200 }))).toEqual([])
    expect(lost(facts().call('a').fault('failover', 400, { lostFromMs: 200 }))).toHaveLength(1)
  })

  test('a failure has a handler that failed, or a reason', () => {
    expect(lost(facts().call('a').run('a', 0, { how: 'failed' }).result('a', 30, 'failed'))).toEqual([])
    expect(lost(facts().call('a').result('a', 30, 'failed', 'RATE_LIMIT_EXCEEDED'))).toHaveLength(1)
    expect(lost(facts().call('a', { waits: false }).result('a', 30, 'failed', 'RATE_LIMIT_EXCEEDED'))).toEqual([])
    const sentBack = (times: number) =>
      Array.from({ length: times }).reduce<FactBook>((book, _, n) => book.run('a', 30 * n, { how: 'sent back' }), facts().call('a'))
    expect(lost(sentBack(11).result('a', 900, 'failed', 'UPSTREAM_REFUSED'))).toEqual([])
    expect(lost(sentBack(11).result('a', 900, 'failed', 'CALL_FAILED'))).toHaveLength(1)
    expect(lost(sentBack(9).result('a', 900, 'failed', 'UPSTREAM_REFUSED'))).toHaveLength(1)
  })

  test('a result is what happened', () => {
    expect(lost(facts().call('a').result('a', 30, 'done'))).toEqual(['a has the result done, and no run of it is done'])
    expect(lost(facts().call('a').result('a', 30, 'cancelled'))).toHaveLength(1)
    expect(lost(facts().call('a').fault('cancel', 10, { call: 'a' }).result('a', 30, 'cancelled'))).toEqual([])
    // Another app's call stands for it.
    expect(
      lost(facts().call('a').call('b', { outcome: 'joined' }).fault('cancel', 10, { call: 'b' }).result('a', 30, 'cancelled').result('b', 30, 'cancelled')),
    ).toEqual([])
  })

  test('a call expires when its time is over, and starts no more', () => {
    expect(lost(facts().call('a', { deadlineMs: 1000 }).result('a', 1100, 'expired'))).toEqual([])
    expect(lost(facts().call('a', { maxWaitMs: 1000 }).result('a', 1100, 'expired'))).toEqual([])
    expect(lost(facts().call('a').result('a', 1100, 'expired'))).toEqual(['a is told to be expired, and had no deadline'])
    expect(lost(facts().call('a', { deadlineMs: 1000 }).result('a', 500, 'expired'))).toHaveLength(1)
    expect(lost(facts().done('a', 1000, { deadlineMs: 1000 }, { startedMs: 1040 }))).toEqual([])
    expect(lost(facts().done('a', 1040, { deadlineMs: 1000 }))).toEqual(['a was charged 40 ms after its deadline; it had to expire'])
  })

  test('a longest wait of its own begins before the call is answered; it begins anew when the call comes back', () => {
    const bounded = (startMs: number) => lost(facts().done('a', startMs, { maxWaitMs: 1000, ownMaxWaitMs: 1000, answeredMs: 20 }))
    expect(bounded(1020)).toEqual([])
    expect(bounded(1060)).toEqual(['a was charged 40 ms after its deadline; it had to expire'])
    expect(lost(facts().done('a', 1060, { maxWaitMs: 1000, answeredMs: 20 }))).toEqual([])
    const again = facts().call('a', { ownMaxWaitMs: 1000 }).run('a', 900, { how: 'failed' }).run('a', 3000).result('a', 3030)
    expect(lost(again)).toEqual([])
    // Its worker lost the job, before it ran.
    const lostJob = (fault: 'redis away' | 'cut') =>
      lost(
        facts()
          .done('a', 3000, { ownMaxWaitMs: 1000 })
          .note({ fact: 'handed', atMs: 990, call: 'a', to: 'w' })
          .note({ fact: 'handed', atMs: 2990, call: 'a', to: 'w' })
          .fault(fault, 1000, { untilMs: 2900 }),
      )
    expect(lostJob('redis away')).toEqual([])
    expect(lostJob('cut')).toHaveLength(1)
  })

  test('a ticket that stands for another call is told how that one ended', () => {
    expect(lost(facts().done('a', 0).call('b', { outcome: 'joined' }).result('b', 30))).toEqual([])
    expect(lost(facts().done('a', 0).call('b', { outcome: 'joined' }))).toEqual(['b stands for a call that was asked for before, and has no result'])
    expect(lost(facts().call('b', { outcome: 'joined' }).fault('death', 10, { process: 'app' }))).toEqual([])
  })

  test('an admission is its start', () => {
    expect(lost(facts().done('a', 0, { door: 'gate', outcome: 'run' }))).toEqual([])
    expect(lost(facts().call('a', { door: 'gate', outcome: 'run' }))).toEqual(['a was answered run, and never started'])
    expect(lost(facts().call('a', { door: 'limiter', outcome: 'refused' }).run('a', 0))).toEqual(['a was refused, and ran'])
  })

  test('nothing runs that no app has asked for', () => {
    expect(lost(facts().run('ghost', 0))).toEqual(['ghost ran, and no app has asked for it'])
  })
})

describe('nothing twice', () => {
  const again = (first: object = {}, secondMs = 500) => facts().call('a').run('a', 0, first).run('a', secondMs)

  test('a call has one result', () => {
    expect(twice(facts().done('a', 0))).toEqual([])
    expect(twice(facts().done('a', 0).result('a', 40))).toEqual(['a has 2 results: done, done'])
  })

  test('a run follows on one that failed, or was sent back', () => {
    for (const how of ['failed', 'sent back', 'released'] as const) expect(twice(again({ how }))).toEqual([])
    expect(twice(again())).toEqual(['a starts again in w though its run 1 in w was done, and no disturbance explains it'])
    expect(twice(again({ ms: 1000 }))).toEqual(['a starts again in w though its run 1 in w was under way, and no disturbance explains it'])
  })

  test('a run follows on one whose process died, or lost its job', () => {
    expect(twice(again({ ends: false }).fault('death', 100, { process: 'w' }))).toEqual([])
    expect(twice(again({ ends: false }).fault('death', 100, { process: 'v' }))).toHaveLength(1)
    expect(twice(again({ ms: 9000 }, 8000).fault('stop', 100, { process: 'w', untilMs: 7000 }))).toEqual([])
    expect(twice(again({ ms: 9000 }, 8000).fault('stop', 100, { process: 'w', untilMs: 1000 }))).toHaveLength(1)
    expect(twice(again().fault('cut', 100, { process: 'w' }))).toEqual([])
    expect(twice(again().fault('failover', 100, { lostFromMs: 0 }))).toEqual([])
    expect(twice(again().fault('slow network', 0, { untilMs: 1000 }))).toHaveLength(1)
    // A short lease may end before its renewal arrives.
    expect(
      again()
        .fault('slow network', 0, { untilMs: 1000 })
        .reports('nothing twice', { ...BOUNDS, leaseMs: 2000 }),
    ).toEqual([])
  })

  test('a job of a plain producer may be two, where it was sent again before it was answered', () => {
    const two = (door: 'plain job' | 'queue') => facts().call('a', { door, answeredMs: 800 }).run('a', 1000).run('a', 9000)
    expect(twice(two('plain job'))).toHaveLength(1)
    expect(twice(two('plain job').fault('cut', 500))).toEqual([])
    expect(twice(two('queue').fault('cut', 500, { process: 'app' }))).toHaveLength(1)
  })

  test('nothing starts after the end', () => {
    expect(twice(facts().call('a').result('a', 100, 'cancelled').run('a', 150))).toEqual([])
    expect(twice(facts().call('a').result('a', 100, 'cancelled').run('a', 300))).toEqual(['a starts 201 ms after its app was told that it is cancelled'])
  })
})

test('a plain producer takes a job that Redis forgot for one that was cancelled', () => {
  const lost = (book: FactBook) => book.reports('nothing lost').map(({ text }) => text)
  const forgotten = { lostFromMs: 900, untilMs: 1100 }
  const cancelled = (door: 'plain job' | 'queue') => facts().call('a', { door, atMs: 950 }).result('a', 1600, 'cancelled')
  expect(lost(cancelled('plain job'))).toEqual(['a is told to be cancelled, and no app has cancelled it'])
  expect(lost(cancelled('plain job').fault('failover', 1000, forgotten))).toEqual([])
  expect(lost(cancelled('queue').fault('failover', 1000, forgotten))).toHaveLength(1)
})

test('the id of a plain job that Redis forgot is given to another, whose result its producer takes for that of its own', () => {
  const lost = (book: FactBook) => book.reports('nothing lost').map(({ text }) => text)
  const done = (door: 'plain job' | 'queue') => facts().call('a', { door, atMs: 950 }).result('a', 1600, 'done').fault('failover', 1000, { lostFromMs: 900 })
  expect(lost(done('plain job'))).toEqual([])
  expect(lost(done('queue'))).toEqual(['a has the result done, and no run of it is done'])
})

test('an error is an error', () => {
  const book = facts().note({ fact: 'error', atMs: 5, process: 'w', text: 'unhandled rejection' })
  expect(book.reports()).toEqual([{ oracle: 'no error', atMs: 5, text: 'w says that it is broken: unhandled rejection', calls: [] }])
  expect(facts().done('a', 0).reports()).toEqual([])
})
