import type { AdmissionRequest } from '../admission/request.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable, TollgateError } from '../model/errors.js'
import { isStoreError } from '../redis/store-error.js'
import type { SendGuard } from '../store/redis/redis-store.js'
import type { MaybePromise, Store } from '../store/store.js'
import { type StoreMethods, storeGuardedBy } from '../store/store-guard.js'
import type { Outage, Settled } from './outage.js'

/** A promise of an answer, also where it is there at once or fails at once. */
function promised<T>(answer: () => MaybePromise<T>): Promise<T> {
  return new Promise((resolve) => resolve(answer()))
}

/** An answer, or its error: each call of a batch has its own. */
function orTaken<T>(answer: () => T): T | TollgateError {
  try {
    return answer()
  } catch (error) {
    if (error instanceof TollgateError) return error
    throw error
  }
}

/** What is answered without Redis, where it is away or goes away meanwhile; given what was sent, if anything was. */
type Instead<T> = (sent: Promise<T> | undefined) => T

async function answered<T>({ breaker }: Outage, send: () => MaybePromise<T>, instead: Instead<T>): Promise<T> {
  if (breaker.away) return instead(undefined)
  let sent: Promise<T> | undefined
  try {
    return await breaker.watch(() => {
      sent = promised(send)
      return sent
    })
  } catch (error) {
    if (!isStoreError(error)) throw error
    return instead(sent)
  }
}

/**
 * Ends a call. Only Redis knows whether an entry is open: while it is away, the answer is that it was.
 * @param settled undefined where the call was not made
 */
async function ended(outage: Outage, request: AdmissionRequest, settled: Settled | undefined, send: () => MaybePromise<boolean>): Promise<boolean> {
  const { breaker, deferred, local, takesReleases } = outage
  if (settled === undefined ? local.release(request) : local.settle(request, settled.actual, settled.how)) return true
  // After a part of its cost the call goes on, and keeps its slots.
  const over = settled?.how !== 'part'
  const defer = () => {
    if (deferred.full)
      throw new StoreUnavailable('Redis is away, and too many calls have ended meanwhile to remember one more', { retryAfterMs: DEFAULTS.storeRetryAfterMs })
    outage.defer(settled === undefined ? 'release' : 'settle', outage.ending(request, settled))
    return true
  }
  // The report that charges this call may still be deferred: its end is queued behind it.
  if (!breaker.away && deferred.size > 0) return defer()
  if (takesReleases) {
    const mayBeReported = deferred.holdsReport
    try {
      const open = await breaker.within(promised(send))
      if (!open && mayBeReported) return defer()
      if (open && over) local.endedElsewhere(request)
      return open
    } catch (error) {
      if (!isStoreError(error)) throw error
    }
  }
  return answered(outage, send, () => {
    const open = defer()
    if (over) local.endedElsewhere(request)
    return open
  })
}

/**
 * The store in Redis, as a process sees it that goes on while Redis is away. A request that comes then is answered at once, without Redis. A request
 * that was on its way when Redis went is answered as if it had never been sent, and reconciled when its own answer comes, see `Outage.late`.
 *
 * Resets, figures, and what agents say have no answer without Redis: they fail with StoreUnavailable.
 * @param make the store in Redis, which hands what it sends to the guard it is given
 */
export function outageStore(outage: Outage, make: (around: SendGuard) => Store): Store {
  const { breaker, local } = outage
  const unavailable = (): never => {
    throw new StoreUnavailable('Redis is away', { retryAfterMs: DEFAULTS.storeRetryAfterMs, cause: breaker.cause })
  }
  const redis: StoreMethods = make({
    admits: (requests, send) =>
      answered(outage, send, (sent) => {
        const given = requests.map((one) => orTaken(() => local.admit(one)))
        if (sent !== undefined) outage.late(given, sent)
        return given
      }),
    peeks: (requests, send) => answered(outage, send, () => requests.map((one) => orTaken(() => local.peek(one)))),
  })
  return {
    ...storeGuardedBy((method, args) => answered(outage, () => redis[method](...args), unavailable)),
    // Each batch of these is guarded as a whole: see above.
    admit: (request) => (breaker.away ? local.admit(request) : redis.admit(request)),
    peek: (request) => (breaker.away ? local.peek(request) : redis.peek(request)),
    record: (request) =>
      answered(
        outage,
        () => redis.record(request),
        (sent) => {
          const given = local.record(request)
          const all = sent?.then((one) => [one])
          if (all !== undefined) outage.late([given], all)
          return given
        },
      ),
    settle: (request, actual, how) => ended(outage, request, { actual, how }, () => redis.settle(request, actual, how)),
    release: (request) => ended(outage, request, undefined, () => redis.release(request)),
    // An algorithm of a user's own has no shares: it is refused, or, if the option says open, asked as for a key without a state.
    compareAndSet: (name, key, was, becomes, keepMs) =>
      answered(
        outage,
        () => redis.compareAndSet(name, key, was, becomes, keepMs),
        () => {
          const letIn = becomes === '' ? local.lets : local.letIn()
          return letIn ? { nowMs: outage.nowMs(), written: becomes !== '', state: becomes } : unavailable()
        },
      ),
  }
}
