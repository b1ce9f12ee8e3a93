import type { AgentOptions } from './options.js'
import { RefillBucket } from './refill-bucket.js'

/** The limit that refused, and the ms until it has room. */
export interface Refusal {
  readonly kind: 'requests' | 'tokens'
  readonly retryAfterMs: number
}

/** Requests per second and tokens per minute of the whole account. */
export class Limits {
  private readonly requests: RefillBucket
  private readonly tokens: RefillBucket

  constructor(options: AgentOptions, nowMs: number) {
    this.requests = new RefillBucket(options.requestsPerSecond, options.requestBurst, nowMs)
    this.tokens = new RefillBucket(options.tokensPerMinute / 60, options.tokenBurst, nowMs)
  }

  /** Takes one request and its tokens if both have room, and nothing if not. */
  take(tokens: number, nowMs: number): Refusal | null {
    const requestsMs = this.requests.msUntil(1, nowMs)
    const tokensMs = this.tokens.msUntil(tokens, nowMs)
    if (requestsMs > 0 || tokensMs > 0)
      return requestsMs > tokensMs ? { kind: 'requests', retryAfterMs: requestsMs } : { kind: 'tokens', retryAfterMs: tokensMs }
    this.requests.take(1, nowMs)
    this.tokens.take(tokens, nowMs)
    return null
  }

  /** Replaces the reserved tokens of a request by the used ones. */
  settle(reserved: number, used: number, nowMs: number): void {
    this.tokens.putBack(reserved - used, nowMs)
  }

  headers(nowMs: number): Record<string, string> {
    const left = (bucket: RefillBucket) => String(Math.max(0, Math.floor(bucket.available(nowMs))))
    return {
      'x-ratelimit-limit-requests': String(this.requests.burst),
      'x-ratelimit-remaining-requests': left(this.requests),
      'x-ratelimit-limit-tokens': String(this.tokens.burst),
      'x-ratelimit-remaining-tokens': left(this.tokens),
    }
  }
}
