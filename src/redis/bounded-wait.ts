import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable } from '../model/errors.js'
import { withoutArguments } from '../model/secrets.js'
import { isStoreError, StoreSilent } from './store-error.js'

/** The waits on each signal. They share one listener: Node takes more than ten on a signal for a leak, and warns. */
const waitsOn = new WeakMap<AbortSignal, { readonly aborts: Set<() => void>; readonly listener: () => void }>()

/** Calls `abort` when the signal aborts. @returns what ends that, and leaves nothing on the signal with its last wait */
export function onAbort(signal: AbortSignal, abort: () => void): () => void {
  let waits = waitsOn.get(signal)
  if (waits === undefined) {
    const aborts = new Set<() => void>()
    waits = { aborts, listener: () => aborts.forEach((one) => void one()) }
    waitsOn.set(signal, waits)
    signal.addEventListener('abort', waits.listener, { once: true })
  }
  const { aborts, listener } = waits
  aborts.add(abort)
  return () => {
    if (!aborts.delete(abort) || aborts.size > 0) return
    signal.removeEventListener('abort', listener)
    waitsOn.delete(signal)
  }
}

/**
 * Waits for `work`, at most `ms` (Infinity: without a bound). Giving up ends the wait only: the
 * work goes on. After the wait no timer and no listener on the signal is left.
 * @param options.signal ends the wait with the signal's reason
 * @param options.late makes the error of a wait that took too long; default StoreSilent
 */
export function within<T>(ms: number, work: Promise<T>, { signal, late }: { signal?: AbortSignal | undefined; late?: () => Error } = {}): Promise<T> {
  return new Promise((resolve, reject) => {
    let waiting = true
    let timer: NodeJS.Timeout | undefined
    const end = () => {
      waiting = false
      clearTimeout(timer)
      leaveSignal?.()
    }
    const check = () => {
      if (!waiting) return
      end()
      reject(late?.() ?? new StoreSilent(`Redis did not answer within ${ms} ms`))
    }
    // Answers that arrived while the event loop was busy are read before the wait counts as too long.
    if (ms < Number.POSITIVE_INFINITY) timer = setTimeout(() => setImmediate(check), Math.max(0, ms))
    const abort = () => {
      end()
      reject(signal?.reason)
    }
    const leaveSignal = signal === undefined ? undefined : onAbort(signal, abort)
    work.finally(end).then(resolve, (error: unknown) => reject(withoutArguments(error)))
    if (signal?.aborted === true) abort()
  })
}

/**
 * Repeats `work` until Redis accepts it: again after 100 ms, then after twice as long each time, up to `longestMs`.
 * Errors that are not due to Redis end it at once.
 * @param failed is given each error of Redis; throws to end the repetition
 */
export async function retrying<T>(work: () => Promise<T>, failed: (error: Error) => void, longestMs: number = DEFAULTS.longestStoreRetryMs): Promise<T> {
  for (let delayMs: number = DEFAULTS.storeRetryMs; ; delayMs = Math.min(longestMs, delayMs * 2)) {
    try {
      return await work()
    } catch (error) {
      if (!isStoreError(error)) throw error
      failed(error)
      // A random part, so that workers which Redis refused at the same moment do not all repeat at the same moment.
      await sleep(delayMs * (0.5 + Math.random() / 2))
    }
  }
}

/** One promise per connection, however many requests wait for it to be ready. */
const connecting = new WeakMap<Redis, Promise<void>>()

export function connected(redis: Redis): Promise<void> {
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

export class Unanswered extends Error {
  /** @param sent whether the step was sent to Redis, which may then still do it */
  constructor(
    message: string,
    readonly sent: boolean,
    cause?: unknown,
  ) {
    super(message, { cause })
  }
}

/**
 * The time that several steps may take in Redis together. A step is sent only while there is a
 * connection: ioredis would keep it otherwise, and send it at an unknown later time.
 */
export class Budget {
  private untilMs: number

  constructor(
    private readonly redis: Redis,
    private readonly ms: number,
  ) {
    this.untilMs = performance.now() + ms
  }

  /** Adds time that was spent elsewhere than in Redis: in a user's own strategy. */
  extend(ms: number): void {
    this.untilMs += ms
  }

  /** Sends one step. @throws Unanswered where Redis refuses it, or the time is over first; any other error of the step */
  async step<T>(send: () => Promise<T>): Promise<T> {
    let sent = false
    const late = () => new Unanswered(`Redis did not answer within ${this.ms} ms`, sent)
    try {
      if (this.redis.status !== 'ready') await within(this.leftMs(), connected(this.redis), { late })
      sent = true
      return await within(this.leftMs(), send(), { late })
    } catch (error) {
      if (error instanceof Unanswered || !isStoreError(error)) throw error
      throw new Unanswered(`Redis is away or refuses (${error.message})`, sent, error)
    }
  }

  private leftMs(): number {
    return this.untilMs - performance.now()
  }
}

/**
 * One request that Redis may take `ms` for.
 * @param what names it in the error, as the subject of a sentence: 'the change'
 * @throws StoreUnavailable that says whether it may have happened after all; any other error of the request
 */
export async function answeredWithin<T>(redis: Redis, ms: number, what: string, send: () => Promise<T>): Promise<T> {
  try {
    return await new Budget(redis, ms).step(send)
  } catch (error) {
    if (!(error instanceof Unanswered)) throw error
    const after = error.sent ? `${what} may have happened after all; ask again` : 'nothing was sent'
    throw new StoreUnavailable(`${error.message}: ${after}`, { retryAfterMs: DEFAULTS.storeRetryAfterMs, cause: error.cause })
  }
}
