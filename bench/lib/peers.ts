import { Ratelimit } from '@upstash/ratelimit'
import Bottleneck from 'bottleneck'
import { Redis } from 'ioredis'
import { RateLimiterRedis } from 'rate-limiter-flexible'
import type { Check } from './compare.js'
import { OTHER_KEYS } from './namespace.js'
import { upstashOverIoredis } from './upstash-over-ioredis.js'

/** Of a limit that nobody reaches. */
export const ROOMY = 1e12
/** Bottleneck keeps capacities as 32 bit integers: more would overflow, and its jobs would never start. */
const BOTTLENECK_ROOMY = 1e9
const MINUTE_MS = 60_000

/** One limit as a peer has it. */
export type Limiter = (key: string) => Promise<unknown>

/**
 * The same connection in two ways: as it comes, and with the commands of one turn written
 * together, which is one option for whoever uses a peer. Each peer counts as it is faster.
 */
export interface PeerClients {
  readonly plain: Redis
  readonly pipelined: Redis
}

export function peerClients(url: string): PeerClients {
  return { plain: new Redis(url), pipelined: new Redis(url, { enableAutoPipelining: true }) }
}

export async function closePeers({ plain, pipelined }: PeerClients): Promise<void> {
  await Promise.all([plain.quit(), pipelined.quit()])
}

/** What a peer does over either client, under its name and the client's. */
export function overEach(clients: PeerClients, peers: Readonly<Record<string, (redis: Redis) => Check>>): Record<string, Check> {
  return Object.fromEntries(
    Object.entries(peers).flatMap(([name, check]) => [
      [name, check(clients.plain)],
      [`${name} (auto-pipelining)`, check(clients.pipelined)],
    ]),
  )
}

/** rate-limiter-flexible: fixed windows; no insurance, no block in memory. Throws where it refuses. */
export function flexible(redis: Redis, name: string, seconds: number): Limiter {
  const limiter = new RateLimiterRedis({ storeClient: redis, keyPrefix: `${OTHER_KEYS}flexible:${name}`, points: ROOMY, duration: seconds })
  return (key) => limiter.consume(key)
}

/**
 * Upstash's limiter: no cache in memory, no analytics, and no timeout, whose timer per check
 * would only slow it down.
 */
export function upstash(redis: Redis, name: string, algorithm: 'token bucket' | 'fixed window', seconds: number): Limiter {
  const limiter = new Ratelimit({
    redis: upstashOverIoredis(redis),
    prefix: `${OTHER_KEYS}upstash:${algorithm}:${name}`,
    limiter: algorithm === 'token bucket' ? Ratelimit.tokenBucket(ROOMY, `${seconds} s`, ROOMY) : Ratelimit.fixedWindow(ROOMY, `${seconds} s`),
    ephemeralCache: false,
    analytics: false,
    enableTelemetry: false,
    timeout: 0,
  })
  return async (key) => {
    if (!(await limiter.limit(key)).success) throw new Error('the benchmark reached its limit')
  }
}

/**
 * Bottleneck, clustered: a limiter per key over one shared connection, its reservoir filled
 * up once a minute, no least time and no concurrency. It has no check without a job, so the
 * job is empty.
 */
export function bottleneck(redis: Redis, name: string): { limiter: Limiter; close: () => Promise<void> } {
  // Its own connection besides ours: it closes what it is given, and adds commands to it.
  const connection = new Bottleneck.IORedisConnection({ client: redis.duplicate() })
  const group = new Bottleneck.Group({
    id: `${OTHER_KEYS}bottleneck:${name}`,
    connection,
    clearDatastore: true,
    minTime: 0,
    maxConcurrent: null,
    reservoir: BOTTLENECK_ROOMY,
    reservoirRefreshInterval: MINUTE_MS,
    reservoirRefreshAmount: BOTTLENECK_ROOMY,
  })
  const job = () => Promise.resolve()
  return { limiter: (key) => group.key(key).schedule(job), close: () => connection.disconnect() }
}
