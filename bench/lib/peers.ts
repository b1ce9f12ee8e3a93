import { Ratelimit } from '@upstash/ratelimit'
import Bottleneck from 'bottleneck'
import type { Redis } from 'ioredis'
import { RateLimiterRedis } from 'rate-limiter-flexible'
import { OTHER_KEYS } from './namespace.js'
import { upstashOverIoredis } from './upstash-over-ioredis.js'

/** A limit that is never reached. */
export const ROOMY = 1e12
/** Bottleneck reads capacities as 32 bit integers: more would overflow, and its jobs would never start. */
const BOTTLENECK_ROOMY = 1e9

/** A check by key of another library; rejects where that refuses. */
export type Limiter = (key: string) => Promise<unknown>

/** rate-limiter-flexible: fixed windows; no insurance, no block in memory. */
function flexible(redis: Redis, name: string, seconds: number): Limiter {
  const limiter = new RateLimiterRedis({ storeClient: redis, keyPrefix: `${OTHER_KEYS}flexible:${name}`, points: ROOMY, duration: seconds })
  return (key) => limiter.consume(key)
}

/**
 * Upstash's limiter: no cache in memory, no analytics, and no timeout, which would cost a timer
 * per check.
 */
function upstash(redis: Redis, name: string, limiter: ReturnType<typeof Ratelimit.fixedWindow>): Limiter {
  const ratelimit = new Ratelimit({
    redis: upstashOverIoredis(redis),
    prefix: `${OTHER_KEYS}upstash:${name}`,
    limiter,
    ephemeralCache: false,
    analytics: false,
    enableTelemetry: false,
    timeout: 0,
  })
  return async (key) => {
    if (!(await ratelimit.limit(key)).success) throw new Error('the benchmark reached its limit')
  }
}

/**
 * Bottleneck, clustered: a limiter per key over one shared connection, with a reservoir that is
 * refilled once per window, no minimum time and no concurrency. It checks only with a job, so
 * the job is empty.
 */
function bottleneck(redis: Redis, name: string, seconds: number): Limiter {
  const group = new Bottleneck.Group({
    // A group that starts clears the data under its id: each process has its own id.
    id: `${OTHER_KEYS}bottleneck:${name}:${process.pid}`,
    connection: new Bottleneck.IORedisConnection({ client: redis }),
    clearDatastore: true,
    minTime: 0,
    maxConcurrent: null,
    reservoir: BOTTLENECK_ROOMY,
    reservoirRefreshInterval: seconds * 1000,
    reservoirRefreshAmount: BOTTLENECK_ROOMY,
  })
  const job = () => Promise.resolve()
  return (key) => group.key(key).schedule(job)
}

/** Each library with its limit that is nearest to a token bucket, and Upstash also with its fastest one. */
export const PEERS = {
  'rate-limiter-flexible': flexible,
  'upstash fixed window': (redis, name, seconds) => upstash(redis, `window:${name}`, Ratelimit.fixedWindow(ROOMY, `${seconds} s`)),
  'upstash token bucket': (redis, name, seconds) => upstash(redis, `bucket:${name}`, Ratelimit.tokenBucket(ROOMY, `${seconds} s`, ROOMY)),
  bottleneck,
} satisfies Record<string, (redis: Redis, name: string, seconds: number) => Limiter>
export type Peer = keyof typeof PEERS
