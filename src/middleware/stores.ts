import type { DirectLimiter } from '../limiter/limiter.js'
import { MAX_AMOUNT } from '../model/call.js'
import { SECOND } from '../model/time.js'
import type { Tollgate } from '../tollgate.js'

interface Hits {
  readonly hits: number
  readonly resetMs: number
}

/** Counts hits per key and window, for packages that decide by a count: two limiters that are never full, one of which takes hits back. */
class HitCounter {
  private readonly counted: DirectLimiter
  private readonly returned: DirectLimiter

  constructor(tollgate: Tollgate, name: string, windowMs: number) {
    const limiter = (of: string) =>
      tollgate.limiter({ name: of, requests: MAX_AMOUNT, per: `${Math.max(1, Math.ceil(windowMs / SECOND))}s`, algorithm: 'fixed_window' })
    this.counted = limiter(`${name}.${windowMs}`)
    this.returned = limiter(`${name}.${windowMs}.returned`)
  }

  async add(key: string): Promise<Hits> {
    return this.sum(await Promise.all([this.counted.check(key), this.returned.peek(key, 0)]))
  }

  async read(key: string): Promise<Hits> {
    return this.sum(await Promise.all([this.counted.peek(key, 0), this.returned.peek(key, 0)]))
  }

  async takeBack(key: string): Promise<void> {
    await this.returned.check(key)
  }

  async reset(key: string): Promise<void> {
    await Promise.all([this.counted.reset(key), this.returned.reset(key)])
  }

  private sum([counted, returned]: Awaited<ReturnType<DirectLimiter['check']>>[]): Hits {
    const used = (answer: typeof counted) => answer?.usage[0]?.used ?? 0
    return { hits: Math.max(0, Math.round(used(counted) - used(returned))), resetMs: counted?.usage[0]?.resetMs ?? 0 }
  }
}

/** A store for express-rate-limit: `rateLimit({ store: expressRateLimitStore(tollgate) })`. Its counts are those of all processes. */
export function expressRateLimitStore(tollgate: Tollgate, { name = 'express-rate-limit' }: { name?: string | undefined } = {}) {
  let counter = new HitCounter(tollgate, name, 60 * SECOND)
  const info = ({ hits, resetMs }: Hits) => ({ totalHits: hits, resetTime: new Date(Date.now() + resetMs) })
  return {
    localKeys: false,
    init({ windowMs }: { readonly windowMs: number }): void {
      counter = new HitCounter(tollgate, name, windowMs)
    },
    async get(key: string) {
      const hits = await counter.read(key)
      return hits.hits === 0 ? undefined : info(hits)
    },
    increment: async (key: string) => info(await counter.add(key)),
    decrement: (key: string) => counter.takeBack(key),
    resetKey: (key: string) => counter.reset(key),
  }
}

type RateLimitCallback = (error: Error | null, result?: { current: number; ttl: number }) => void

/** A store for @fastify/rate-limit: `app.register(rateLimit, { store: fastifyRateLimitStore(tollgate) })`. */
export function fastifyRateLimitStore(tollgate: Tollgate, { name = 'fastify-rate-limit' }: { name?: string | undefined } = {}) {
  const counters = new Map<number, HitCounter>()
  return class TollgateStore {
    constructor(readonly options: unknown) {}

    incr(key: string, callback: RateLimitCallback, timeWindow: number): void {
      const counter = counters.get(timeWindow) ?? new HitCounter(tollgate, name, timeWindow)
      counters.set(timeWindow, counter)
      counter.add(key).then(
        ({ hits, resetMs }) => callback(null, { current: hits, ttl: Math.ceil(resetMs) }),
        (error: Error) => callback(error),
      )
    }

    child(): TollgateStore {
      return this
    }
  }
}
