import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable } from '../model/errors.js'
import { isStoreError } from './store-error.js'

/**
 * Does something until Redis takes it: again after 100 ms, then each time later, up to 2 s.
 * @param given told of each failure; throws where it is not to be tried any more
 */
export async function persist<T>(work: () => Promise<T>, given: (error: Error) => void): Promise<T> {
  for (let delayMs: number = DEFAULTS.storeRetryMs; ; delayMs = Math.min(DEFAULTS.longestStoreRetryMs, delayMs * 2)) {
    try {
      return await work()
    } catch (error) {
      if (!isStoreError(error)) throw error
      given(error)
      // Not all at once: workers that were refused together would ask together.
      await sleep(delayMs * (0.5 + Math.random() / 2))
    }
  }
}

/** Who waits for a connection, once for all who do. */
const connecting = new WeakMap<Redis, Promise<void>>()

function connected(redis: Redis): Promise<void> {
  let ready = connecting.get(redis)
  if (ready === undefined) {
    ready = new Promise((resolve) => {
      redis.once('ready', () => {
        connecting.delete(redis)
        resolve()
      })
    })
    connecting.set(redis, ready)
  }
  return ready
}

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
  private untilMs: number

  constructor(redis: Redis, timeoutMs: number) {
    this.redis = redis
    this.timeoutMs = timeoutMs
    this.untilMs = performance.now() + timeoutMs
  }

  /** So long it was not Redis that was waited for. */
  excuse(ms: number): void {
    this.untilMs += ms
  }

  /** What it comes to. @throws what `failed` makes of it where Redis does not answer in time, or refuses; any other error as it is */
  async answer<T>(send: () => Promise<T>, failed: (why: Impatience) => Error): Promise<T> {
    let sent = false
    try {
      if (this.redis.status !== 'ready') await this.inTime(connected(this.redis))
      sent = true
      return await this.inTime(send())
    } catch (error) {
      if (error instanceof StoreUnavailable) throw failed({ message: error.message, cause: error.cause, sent })
      if (!isStoreError(error)) throw error
      throw failed({ message: `Redis is away or refuses (${error.message})`, cause: error, sent })
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
