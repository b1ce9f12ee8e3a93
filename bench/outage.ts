import { setTimeout as sleep } from 'node:timers/promises'
import type { OutageFigures, RuleSpec } from '../src/index.js'
import { type RedisServer, redisProgram, startRedisProcess } from '../test/support/redis-process.js'
import { atMost, type Figure, mostInAny, notMeasured, percentile } from './lib/measure.js'
import { Helper } from './lib/processes.js'
import type { TimedDecision } from './outage-process.js'

const PROCESSES = 4
const CALLS_PER_SECOND = 200
const PER_SECOND = 100
const BURST = 10
const AWAY_MS = 10_000
const BEFORE_MS = 3000
const AFTER_MS = 3000
/** Below the default: a Redis that stands still counts as away after this time, and calls wait for it until then. */
const STORE_TIMEOUT_MS = 60
const WINDOWS_MS = [1000, 2000, 5000, 10_000, 16_000] as const
const ALGORITHMS = ['token_bucket', 'sliding_window'] as const
const LATENCY_BAR_MS = 5
const LIMIT_BAR = 1.1
const REDIS_FLAGS = ['--appendonly', 'yes', '--save', '']

const WAYS = {
  killed: { begin: (redis: RedisServer) => redis.kill(), end: (redis: RedisServer) => redis.start() },
  paused: { begin: async (redis: RedisServer) => redis.pause(), end: async (redis: RedisServer) => redis.resume() },
} as const
type Way = keyof typeof WAYS
type Algorithm = (typeof ALGORITHMS)[number]

interface Run {
  /** Latencies of the decisions made while Redis was away. */
  readonly tookMs: readonly number[]
  /** The most admitted calls in any window of the run, divided by what the limit allows there. */
  readonly overLimit: number
  readonly admitted: number
  readonly backMs: number
}

const nowMs = () => performance.timeOrigin + performance.now()

function ruleOf(algorithm: Algorithm): RuleSpec {
  const burst = algorithm === 'token_bucket' ? { burst: BURST } : {}
  return { name: 'r', scope: 'agent', limits: [{ requests: PER_SECOND, per: 'second', algorithm, ...burst }] }
}

function allowedIn(windowMs: number, algorithm: Algorithm): number {
  return (PER_SECOND * windowMs) / 1000 + (algorithm === 'token_bucket' ? BURST : 0)
}

async function run(redis: RedisServer, way: Way, algorithm: Algorithm): Promise<Run> {
  const everyMs = (1000 * PROCESSES) / CALLS_PER_SECOND
  const options = {
    redis: redis.url,
    namespace: `bench-outage-${way}-${algorithm}`,
    rules: [ruleOf(algorithm)],
    onStoreError: 'local',
    storeTimeoutMs: STORE_TIMEOUT_MS,
    everyMs,
  }
  const helpers = await Promise.all(Array.from({ length: PROCESSES }, () => Helper.start('outage-process', options)))
  // Until each process knows of all others by their heartbeats.
  await sleep(1500)
  await Promise.all(helpers.map((helper) => helper.request('begin')))
  await sleep(BEFORE_MS)
  const beganMs = nowMs()
  await WAYS[way].begin(redis)
  await sleep(AWAY_MS)
  const endedMs = nowMs()
  await WAYS[way].end(redis)
  let away = true
  while (away) {
    await sleep(20)
    away = (await Promise.all(helpers.map((helper) => helper.request<OutageFigures>('outage')))).some((one) => one.away)
  }
  const backMs = nowMs() - endedMs
  await sleep(AFTER_MS)
  const decisions = (await Promise.all(helpers.map((helper) => helper.request<TimedDecision[]>('end')))).flat()
  await Promise.all(helpers.map((helper) => helper.stop()))
  const during = decisions.filter(({ atMs }) => atMs >= beganMs && atMs < endedMs)
  const starts = decisions.filter(({ allowed }) => allowed).map(({ atMs, tookMs }) => atMs + tookMs)
  return {
    tookMs: during.map(({ tookMs }) => tookMs),
    overLimit: Math.max(...WINDOWS_MS.map((windowMs) => mostInAny(starts, windowMs) / allowedIn(windowMs, algorithm))),
    admitted: during.filter(({ allowed }) => allowed).length,
    backMs,
  }
}

/**
 * Redis is away for 10 s, killed or stopped by SIGSTOP, under 200 calls a second from 4 processes
 * with `onStoreError: local`: the latency of a decision in that time, from its first moment on,
 * and the calls that the shares of all processes admit together, against the limit, in any window
 * of the run. The benchmark starts this Redis itself: the given one may be in use.
 */
export async function outage(): Promise<Figure[]> {
  const program = redisProgram()
  if (program === undefined) return [notMeasured('outage', '-', 'there is no redis-server or valkey-server on the PATH')]
  const redis = await startRedisProcess(program, REDIS_FLAGS)
  try {
    const figures: Figure[] = []
    for (const way of Object.keys(WAYS) as Way[]) {
      const runs: Run[] = []
      for (const algorithm of ALGORITHMS) runs.push(await run(redis, way, algorithm))
      const tookMs = runs.flatMap((one) => one.tookMs)
      const slow = tookMs.filter((ms) => ms > LATENCY_BAR_MS).length
      figures.push(
        atMost(
          `p99 of a decision in the 10 s in which Redis is ${way}, in ms`,
          percentile(tookMs, 0.99),
          LATENCY_BAR_MS,
          `${tookMs.length} calls, p50 ${percentile(tookMs, 0.5).toFixed(3)}, longest ${Math.max(...tookMs).toFixed(1)}, ${slow} above ${LATENCY_BAR_MS}; storeTimeoutMs ${STORE_TIMEOUT_MS}`,
        ),
        atMost(
          `calls admitted by the shares of ${PROCESSES} processes against the limit, Redis ${way}`,
          Math.max(...runs.map(({ overLimit }) => overLimit)),
          LIMIT_BAR,
          ALGORITHMS.map((algorithm, n) => {
            const one = runs[n] as Run
            return `${algorithm}: ${one.overLimit.toFixed(3)} in the worst window of 1 to 16 s, ${one.admitted} admitted while it was away (limit ${(PER_SECOND * AWAY_MS) / 1000}), back after ${one.backMs.toFixed(0)} ms`
          }).join('; '),
        ),
      )
    }
    return figures
  } finally {
    await Helper.stopAll()
    await redis.stop()
  }
}
