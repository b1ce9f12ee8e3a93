import { expect, test } from 'vitest'
import type { LimitSpec } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { givenScriptClient } from '../support/script-client.js'
import { SimulatedQueue } from '../support/simulated-queue.js'

const PER_SECOND = 50
const CALLS = 400
const SECONDS = 6
const SLACK_MS = 0.01

/** The most starts in any window of this length. */
function mostInAny(times: readonly number[], windowMs: number): number {
  let most = 0
  for (const [last, time] of times.entries()) {
    let first = last
    while (first > 0 && time - (times[first - 1] as number) < windowMs - SLACK_MS) first--
    most = Math.max(most, last - first + 1)
  }
  return most
}

function mostInAligned(times: readonly number[]): number {
  const counts = new Map<number, number>()
  for (const time of times) counts.set(Math.floor(time / 1000), (counts.get(Math.floor(time / 1000)) ?? 0) + 1)
  return Math.max(...counts.values())
}

interface Expected {
  readonly limit: LimitSpec
  /** The least share of the limit that is used while calls wait. */
  readonly used: number
  /** @throws AssertionError where more calls started than the algorithm allows */
  readonly neverOver: (starts: readonly number[]) => void
}

const limit = (algorithm: NonNullable<LimitSpec['algorithm']>): LimitSpec => ({ requests: PER_SECOND, per: 'second', algorithm })

const PROMISES: Readonly<Record<string, Expected>> = {
  token_bucket: {
    limit: { ...limit('token_bucket'), burst: 10 },
    used: 0.99,
    neverOver: (starts) => expect(mostInAny(starts, 1000)).toBeLessThanOrEqual(PER_SECOND + 10),
  },
  leaky_bucket: {
    limit: limit('leaky_bucket'),
    used: 0.95,
    neverOver: (starts) => expect(mostInAny(starts, 1000 / PER_SECOND)).toBe(1),
  },
  fixed_window: { limit: limit('fixed_window'), used: 0.99, neverOver: (starts) => expect(mostInAligned(starts)).toBeLessThanOrEqual(PER_SECOND) },
  // A thirty-third of the limit may lie idle.
  sliding_window: { limit: limit('sliding_window'), used: 0.95, neverOver: (starts) => expect(mostInAny(starts, 1000)).toBeLessThanOrEqual(PER_SECOND) },
  sliding_log: { limit: limit('sliding_log'), used: 0.95, neverOver: (starts) => expect(mostInAny(starts, 1000)).toBeLessThanOrEqual(PER_SECOND) },
}

test.each(Object.entries(PROMISES))(
  'calls in line at a %s start in order, never above the limit, and without leaving it idle (invariants 1, 5, 6, 8)',
  async (_, promise) => {
    const namespace = newNamespace()
    const { scriptClient, clock } = givenScriptClient(namespace, [{ name: 'r', scope: 'agent', limits: [promise.limit] }])
    const queue = new SimulatedQueue({ namespace, scriptClient, clock, latencyMs: () => 5 })
    const begin = clock.nowMs
    await queue.enqueue(Array.from({ length: CALLS }, (_, index) => ({ id: `c${index}`, call: { agent: 'llm' } })))
    await queue.runFor(SECONDS * 1000, 1)
    const times = queue.starts.map(({ atMs }) => atMs)
    promise.neverOver(times)
    const [from, to] = [begin + 1000, begin + SECONDS * 1000]
    expect(times.filter((time) => time >= from && time < to).length).toBeGreaterThanOrEqual(Math.floor(promise.used * PER_SECOND * (SECONDS - 1)) - 1)
    expect(queue.pickups).toBeLessThanOrEqual(Math.ceil(queue.starts.length * 1.05) + PER_SECOND)
    const order = queue.starts.map(({ id }) => Number(id.slice('calls/c'.length)))
    expect(order).toEqual([...order].sort((one, other) => one - other))
    await queue.cancelAll()
  },
)
