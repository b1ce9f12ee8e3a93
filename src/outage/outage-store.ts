import type { AdmissionRequest } from '../admission/request.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable } from '../model/errors.js'
import { isStoreError } from '../redis/store-error.js'
import type { SendGuard } from '../store/redis/redis-store.js'
import type { MaybePromise, Store } from '../store/store.js'
import { type StoreMethods, storeGuardedBy } from '../store/store-guard.js'
import type { Outage } from './outage.js'

/** A promise of an answer, also where it is there at once or fails at once. */
function promised<T>(answer: () => MaybePromise<T>): Promise<T> {
  return new Promise((resolve) => resolve(answer()))
}

/** What is answered without Redis, where it is away or goes away meanwhile; given what was sent, if anything was. */
type Instead<T> = (sent: Promise<T> | undefined) => T

async function answered<T>({ breaker }: Outage, send: () => Promise<T>, instead: Instead<T>): Promise<T> {
  if (breaker.away) return instead(undefined)
  let sent: Promise<T> | undefined
  try {
    return await breaker.watch(() => {
      sent = send()
      return sent
    })
  } catch (error) {
    if (!isStoreError(error)) throw error
    return instead(sent)
  }
}

/** How a call ends. */
interface Ending {
  /** Ends it, if it was let in during this outage. @returns whether it was */
  readonly here: () => boolean
  readonly send: () => Promise<boolean>
  /** Has it end when Redis is back. */
  readonly defer: () => void
  /** Whether the call is over, and its slots are free. */
  readonly over: boolean
}

/** Only Redis knows whether an entry is open: while it is away, the answer is that it was. */
async function ended(outage: Outage, request: AdmissionRequest, { here, send, defer, over }: Ending): Promise<boolean> {
  if (here()) return true
  const { breaker, deferred, local, takesReleases } = outage
  // The report that charges this call may still be deferred: its end is queued behind it.
  if (!breaker.away && deferred.size > 0) {
    defer()
    return true
  }
  if (takesReleases) {
    try {
      const open = await breaker.within(send())
      if (open && over) local.endedElsewhere(request)
      return open
    } catch (error) {
      if (!isStoreError(error)) throw error
    }
  }
  return answered(outage, send, () => {
    defer()
    if (over) local.endedElsewhere(request)
    return true
  })
}

/**
 * The store in Redis, as a process sees it that goes on while Redis is away. A request that comes
 * then is answered at once, without Redis. A request that was on its way when Redis went is answered
 * as if it had never been sent, and reconciled when its own answer comes, see `Outage.late`.
 *
 * Resets, figures, and what agents say have no answer without Redis: they fail with StoreUnavailable.
 * @param make the store in Redis, which hands what it sends to the guard it is given
 */
export function outageStore(outage: Outage, make: (around: SendGuard) => Store): Store {
  const { breaker, deferred, local } = outage
  const unavailable = (): never => {
    throw new StoreUnavailable('Redis is away', { retryAfterMs: DEFAULTS.longestProbeMs, cause: breaker.cause })
  }
  const redis: StoreMethods = make({
    admits: (requests, send) =>
      answered(outage, send, (sent) => {
        const given = requests.map((one) => local.admit(one))
        if (sent !== undefined) outage.late(given, sent)
        return given
      }),
    peeks: (requests, send) => answered(outage, send, () => requests.map((one) => local.peek(one))),
  })
  return {
    ...storeGuardedBy((method, args) => answered(outage, () => promised(() => redis[method](...args)), unavailable)),
    // Each batch of these is guarded as a whole: see above.
    admit: (request) => (breaker.away ? local.admit(request) : redis.admit(request)),
    peek: (request) => (breaker.away ? local.peek(request) : redis.peek(request)),
    record: (request) =>
      answered(
        outage,
        () => promised(() => redis.record(request)),
        (sent) => {
          const given = local.record(request)
          const all = sent?.then((one) => [one])
          if (all !== undefined) outage.late([given], all)
          return given
        },
      ),
    settle: (request, actual, how) =>
      ended(outage, request, {
        here: () => local.settle(request, actual, how),
        send: () => promised(() => redis.settle(request, actual, how)),
        defer: () => deferred.settle(request, actual, how),
        over: how === 'end',
      }),
    release: (request) =>
      ended(outage, request, {
        here: () => local.release(request),
        send: () => promised(() => redis.release(request)),
        defer: () => deferred.release(request),
        over: true,
      }),
    // An algorithm of a user's own has no shares: it is refused, or, if the option says open, asked as for a key without a state.
    compareAndSet: (name, key, was, becomes, keepMs) =>
      answered(
        outage,
        () => promised(() => redis.compareAndSet(name, key, was, becomes, keepMs)),
        () => {
          if (becomes !== '' && local.letIn()) return { nowMs: outage.nowMs(), written: true, state: becomes }
          if (becomes === '' && local.lets) return { nowMs: outage.nowMs(), written: false, state: '' }
          return unavailable()
        },
      ),
  }
}
