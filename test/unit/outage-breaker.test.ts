import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { CircuitBreaker } from '../../src/outage/breaker.js'
import { StoreSilent } from '../../src/redis/store-error.js'
import { until } from '../support/until.js'

const TIMEOUT_MS = 50

/** A breaker whose probes fail until `answers` is set, and what it told. */
function newBreaker() {
  const seen = { opened: 0, closed: 0, probes: 0, underWay: 0, mostUnderWay: 0, caughtUpFrom: 0 }
  const redis = { answers: false }
  const breaker = new CircuitBreaker({
    timeoutMs: TIMEOUT_MS,
    connected: () => true,
    probe: async () => {
      seen.probes++
      seen.mostUnderWay = Math.max(seen.mostUnderWay, ++seen.underWay)
      await sleep(5)
      seen.underWay--
      if (!redis.answers) throw new StoreSilent('still away')
      return 1234
    },
    catchUp: async (answeredAtMs) => {
      seen.caughtUpFrom = answeredAtMs
    },
    opened: () => void seen.opened++,
    closed: () => void seen.closed++,
  })
  onTestFinished(() => breaker.stop())
  return { breaker, seen, redis }
}

const never = () => new Promise<never>(() => {})

test('one failed command opens it, and all that are under way fail at once', async () => {
  const { breaker, seen } = newBreaker()
  const begin = performance.now()
  const other = breaker.watch(never)
  await expect(breaker.watch(() => Promise.reject(new Error('READONLY')))).rejects.toThrow('READONLY')
  await expect(other).rejects.toBeInstanceOf(StoreSilent)
  expect(performance.now() - begin).toBeLessThan(TIMEOUT_MS)
  expect([breaker.away, breaker.cause?.message, seen.opened]).toEqual([true, 'READONLY', 1])
})

test('one late command opens it, a failed call does not', async () => {
  const { breaker } = newBreaker()
  await expect(breaker.watch(() => Promise.reject(new Error('CALL_INVALID')))).rejects.toThrow('CALL_INVALID')
  expect(breaker.away).toBe(false)
  await expect(breaker.watch(never)).rejects.toThrow(/did not answer within 50 ms/)
  expect(breaker.away).toBe(true)
})

test('a command that was answered while the process was busy is not late', async () => {
  const { breaker } = newBreaker()
  // Answers in the phase of the event loop in which sockets are read, which comes after the timers.
  const answered = breaker.watch(() => new Promise((resolve) => setImmediate(() => resolve('answer'))))
  const untilMs = performance.now() + 3 * TIMEOUT_MS
  while (performance.now() < untilMs);
  expect(await answered).toBe('answer')
  expect(breaker.away).toBe(false)
})

test('probes come one at a time, and it closes when one was answered and all was taken in', async () => {
  const { breaker, seen, redis } = newBreaker()
  breaker.trip(new StoreSilent('lost'))
  breaker.tryNow()
  await until('some probes have failed', () => seen.probes >= 3)
  breaker.tryNow()
  breaker.tryNow()
  redis.answers = true
  await until('it is closed', () => !breaker.away)
  expect(seen).toMatchObject({ opened: 1, closed: 1, mostUnderWay: 1, caughtUpFrom: 1234 })
})

test('once stopped it sends no probe, and still fails what is under way', async () => {
  const { breaker, seen } = newBreaker()
  const waits = breaker.watch(never)
  breaker.stop()
  breaker.trip(new StoreSilent('lost'))
  await expect(waits).rejects.toBeInstanceOf(StoreSilent)
  breaker.tryNow()
  await sleep(120)
  expect([breaker.away, seen.probes]).toEqual([true, 0])
})

describe('a sign that Redis is there while a probe is under way', () => {
  /** A breaker on a given clock, at the longest time between two probes; its next probe is `underWay`. */
  async function atLongestDelay() {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    let probes = 0
    let end: { resolve: (nowMs: number) => void; reject: (error: Error) => void } | undefined
    const underWay = new Promise<number>((resolve, reject) => {
      end = { resolve, reject }
    })
    const breaker = new CircuitBreaker({
      timeoutMs: TIMEOUT_MS,
      connected: () => true,
      probe: () => {
        probes++
        if (probes > 4) return probes === 5 ? underWay : Promise.resolve(1)
        return Promise.reject(new StoreSilent('still away'))
      },
      catchUp: async () => {},
      opened: () => {},
      closed: () => {},
    })
    onTestFinished(() => breaker.stop())
    breaker.trip(new StoreSilent('lost'))
    while (probes < 5) await vi.advanceTimersByTimeAsync(10)
    return { breaker, underWay: end as NonNullable<typeof end> }
  }

  test('its answer, after its time: the next probe is sent at once', async () => {
    const { breaker, underWay } = await atLongestDelay()
    await vi.advanceTimersByTimeAsync(TIMEOUT_MS + 10)
    underWay.resolve(1)
    await vi.advanceTimersByTimeAsync(1)
    expect(breaker.away).toBe(false)
  })

  test('a connection that is there again: the next probe is sent as soon as this one has failed', async () => {
    const { breaker, underWay } = await atLongestDelay()
    breaker.tryNow()
    underWay.reject(new StoreSilent('Connection is closed'))
    await vi.advanceTimersByTimeAsync(1)
    expect(breaker.away).toBe(false)
  })

  test('none: the next probe waits', async () => {
    const { breaker, underWay } = await atLongestDelay()
    underWay.reject(new StoreSilent('READONLY'))
    await vi.advanceTimersByTimeAsync(100)
    expect(breaker.away).toBe(true)
    await vi.advanceTimersByTimeAsync(200)
    expect(breaker.away).toBe(false)
  })
})
