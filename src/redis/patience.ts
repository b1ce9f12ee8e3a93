import type { Redis } from 'ioredis'
import { DEFAULTS } from '../config/defaults.js'
import { StoreUnavailable } from '../errors.js'
import { isStoreError } from './store-error.js'

/** What is said where Redis did not answer. */
export interface Impatience {
  /** What was to be done, as the object of a sentence: "the call was not enqueued". */
  readonly message: string
  readonly cause: unknown
  /** Whether it was sent: then it may be done after all. */
  readonly sent: boolean
}

/** How long something that needs Redis waits for it in all. Nothing is sent while there is no connection: the client would keep it, and do it whenever Redis is back. */
export class Patience {
  private readonly redis: Redis
  private readonly timeoutMs: number
  private readonly untilMs: number

  constructor(redis: Redis, timeoutMs: number) {
    this.redis = redis
    this.timeoutMs = timeoutMs
    this.untilMs = performance.now() + timeoutMs
  }

  /** What it comes to. @throws what `failed` makes of it where Redis does not answer in time, or refuses; any other error as it is */
  async answer<T>(send: () => Promise<T>, failed: (why: Impatience) => Error): Promise<T> {
    let sent = false
    try {
      if (this.redis.status !== 'ready') await this.connected()
      sent = true
      return await this.inTime(send())
    } catch (error) {
      if (error instanceof StoreUnavailable) throw failed({ message: error.message, cause: error.cause, sent })
      if (!isStoreError(error)) throw error
      throw failed({ message: `Redis is away or refuses (${error.message})`, cause: error, sent })
    }
  }

  private async connected(): Promise<void> {
    let done = () => {}
    const ready = new Promise<void>((resolve) => {
      this.redis.once('ready', resolve)
      done = () => this.redis.off('ready', resolve)
    })
    try {
      await this.inTime(ready)
    } finally {
      done()
    }
  }

  private inTime<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const late = () => reject(new StoreUnavailable(`Redis did not answer within ${this.timeoutMs} ms`, { retryAfterMs: DEFAULTS.longestProbeMs }))
      // What was answered while this process was busy is read first.
      const timer = setTimeout(() => setImmediate(late), Math.max(0, this.untilMs - performance.now()))
      const done = () => clearTimeout(timer)
      work.then(
        (value) => {
          done()
          resolve(value)
        },
        (error: unknown) => {
          done()
          reject(error as Error)
        },
      )
    })
  }
}

/** The error of something that could not be done, and may have been done after all where it was sent. */
export function unanswered(what: string, { message, cause, sent }: Impatience): StoreUnavailable {
  const after = sent ? `${what} may have happened after all; ask again` : 'nothing was sent'
  return new StoreUnavailable(`${message}: ${after}`, { retryAfterMs: DEFAULTS.longestProbeMs, cause })
}
