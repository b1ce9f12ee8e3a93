import { describe, expect, test } from 'vitest'
import type { FactLimit } from '../../simulation/oracles/facts.js'
import { agentLimit, FactBook } from '../../support/fact-book.js'

const BUCKET = agentLimit({ kind: 'bucket', perSecond: 1, burst: 1 })

describe('in order', () => {
  const texts = (book: FactBook) => book.reports('in order').map(({ text }) => text)
  const pair = (firstMs: number, secondMs: number, first: object = {}, second: object = {}) =>
    new FactBook(BUCKET).done('first', firstMs, { atMs: 0, ...first }).done('second', secondMs, { atMs: 1, ...second })

  test('of equal calls the one that came first starts first', () => {
    expect(texts(pair(1000, 2000))).toEqual([])
    expect(texts(pair(2000, 1000))).toEqual(['first was asked for first and starts 1000 ms after second, though both waited for the same meters'])
  })

  test('calls that start within two steps of each other may change places', () => {
    expect(texts(pair(1190, 1000))).toEqual([])
    expect(texts(pair(1210, 1000))).toHaveLength(1)
  })

  test('two apps that ask at once have no order, two calls of one app have one', () => {
    expect(texts(pair(2000, 1000, { answeredMs: 2 }, { by: 'other' }))).toEqual([])
    expect(texts(pair(2000, 1000, { answeredMs: 2 }))).toHaveLength(1)
    expect(texts(pair(2000, 1000, {}, { by: 'other' }))).toHaveLength(1)
  })

  test('which calls wait in degraded mode, and so in other lines, is not known', () => {
    const [normal, degraded] = [{ ...BUCKET, mode: 'normal' } as const, { ...BUCKET, name: 'account~degraded/bucket', mode: 'degraded' } as const]
    expect(texts(new FactBook(normal, degraded).done('first', 2000).done('second', 1000, { atMs: 1 }))).toEqual([])
  })

  test('a higher priority goes before, also if it came later', () => {
    expect(texts(pair(2000, 1000, {}, { priority: 1 }))).toEqual([])
    expect(texts(pair(1000, 2000, {}, { priority: 1 }))).toHaveLength(1)
    // It came when the other one was on its way.
    expect(texts(pair(1000, 2000, {}, { priority: 1, atMs: 950 }))).toEqual([])
  })

  test('a cheaper call may find room at a second meter; one that costs as much may not', () => {
    expect(texts(pair(2000, 1000, { costs: { requests: 2 } }, { costs: { requests: 1 } }))).toEqual([])
    expect(texts(pair(2000, 1000, { costs: { requests: 2 } }, { costs: { requests: 2 } }))).toHaveLength(1)
  })

  test('calls of other meters, queues or doors have no order', () => {
    const apart: FactLimit = { ...BUCKET, by: ['agent', 'org'] }
    const book = new FactBook(apart)
      .done('first', 2000, { scopes: { agent: 'a', org: 'x' } })
      .done('second', 1000, { atMs: 1, scopes: { agent: 'a', org: 'y' } })
    expect(texts(book)).toEqual([])
    expect(texts(pair(2000, 1000, {}, { queue: 'other' }))).toEqual([])
    expect(texts(pair(2000, 1000, {}, { door: 'plain job' }))).toEqual([])
    expect(texts(pair(2000, 1000, {}, { outcome: 'run' }))).toEqual([])
  })

  test('calls that did not wait at the same time have no order', () => {
    expect(texts(new FactBook(BUCKET).done('first', 2000, { atMs: 1500, priority: 1 }).done('second', 1000, { atMs: 0 }))).toEqual([])
  })

  test('a disturbance may hold a call up', () => {
    expect(texts(pair(2000, 1000).fault('stop', 500, { process: 'w', untilMs: 600 }))).toEqual([])
    expect(texts(pair(2000, 1000).fault('stop', 30_000, { process: 'w', untilMs: 31_000 }))).toHaveLength(1)
  })
})

describe('ETA told', () => {
  const texts = (book: FactBook) => book.reports('eta told').map(({ text }) => text)
  const told = (etaMs: number | null, startMs: number, more: object = {}) => new FactBook(BUCKET).done('a', startMs, { etaMs, ...more })

  test('a start is when it was told, within the bound', () => {
    expect(texts(told(1000, 1400))).toEqual([])
    expect(texts(told(1000, 600))).toEqual([])
    expect(texts(told(1000, 1600))).toEqual(['a was told to start in 1000 ms and starts 600 ms later; 500 ms are allowed'])
    expect(texts(told(1000, 400))).toEqual(['a was told to start in 1000 ms and starts 600 ms earlier; 500 ms are allowed'])
    expect(texts(told(null, 5000))).toEqual([])
    expect(texts(told(1000, 2400, { etaMaxMs: 2000 }))).toEqual([])
    expect(texts(told(1000, 2600, { etaMaxMs: 2000 }))).toEqual(['a was told to start in 1000 to 2000 ms and starts 600 ms later; 500 ms are allowed'])
    expect(texts(told(1000, 9000, { etaMaxMs: null }))).toEqual([])
    expect(texts(told(1000, 400, { etaMaxMs: null }))).toEqual(['a was told to start in 1000 ms or more and starts 600 ms earlier; 500 ms are allowed'])
  })

  test('one of a hundred calls may be told a wrong time, where there are more than a few', () => {
    const beside = (calls: number, late: number) => {
      const book = new FactBook(BUCKET)
      for (let n = 0; n < calls; n++) book.done(`c${n}`, n < late ? 400 : 1000, { etaMs: 1000 })
      return texts(book)
    }
    expect(beside(19, 1)).toHaveLength(1)
    expect(beside(20, 1)).toEqual([])
    expect(beside(100, 2)).toHaveLength(2)
    expect(beside(101, 2)).toEqual([])
  })

  test('a start is later where a call of a higher priority came in between', () => {
    const with_ = (priority: number) => told(1000, 2000).done('b', 1000, { atMs: 500, priority })
    expect(texts(with_(1))).toEqual([])
    expect(texts(with_(0))).toHaveLength(1)
  })

  test('a start is later where a call cost more than it said, and earlier where one cost less', () => {
    const beside = (actual: number, startMs: number) => told(1000, startMs).done('b', 10, {}, { actual: { requests: actual } })
    expect(texts(beside(2, 2000))).toEqual([])
    expect(texts(beside(2, 100))).toHaveLength(1)
    expect(texts(beside(0.5, 100))).toEqual([])
    expect(texts(beside(0.5, 2000))).toHaveLength(1)
    expect(texts(beside(1, 2000))).toHaveLength(1)
  })

  test('a start is earlier where a call before it never ran', () => {
    expect(texts(told(1000, 100).call('b').fault('cancel', 50, { call: 'b' }).result('b', 50, 'cancelled'))).toEqual([])
  })

  test('is not judged where faults were made', () => {
    expect(texts(told(1000, 3000).fault('stop', 50, { process: 'w', untilMs: 1000 }))).toEqual([])
  })
})
