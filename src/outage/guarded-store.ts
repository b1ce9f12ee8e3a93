import type { AdmissionRequest } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import type { RejectDecision, RunDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable } from '../model/errors.js'
import type { Observation, UpstreamOutcome, UpstreamReport, UpstreamStatus } from '../model/upstream.js'
import { isStoreError } from '../redis/store-error.js'
import type { SendGuard } from '../store/redis/redis-store.js'
import type { Admission, LedgerFigures, MaybePromise, StateResult, Store } from '../store/store.js'
import type { Outage } from './outage.js'

type CheckDecision = RunDecision | RejectDecision

/**
 * The store in Redis, as one process sees it that goes on while Redis is away. What is asked then
 * is answered at once, without it. What was on its way when it went is answered as if it had never
 * been sent, and reconciled when its own answer comes, see `Outage`.
 */
export class GuardedStore implements Store, SendGuard {
  private readonly store: Store
  private readonly outage: Outage

  /** @param make the store in Redis, which hands what it sends to this one */
  constructor(make: (around: SendGuard) => Store, outage: Outage) {
    this.outage = outage
    this.store = make(this)
    outage.pays({
      settle: async (request, actual, how) => this.store.settle(request, actual, how),
      release: async (request) => this.store.release(request),
    })
  }

  admit(request: AdmissionRequest): MaybePromise<Admission> {
    return this.outage.breaker.away ? this.outage.fallback.admit(request) : this.store.admit(request)
  }

  peek(request: AdmissionRequest): MaybePromise<CheckDecision> {
    return this.outage.breaker.away ? this.outage.fallback.peek(request) : this.store.peek(request)
  }

  admits(requests: readonly AdmissionRequest[], send: () => Promise<Admission[]>): Promise<Admission[]> {
    return this.sent(send, (sent) => {
      const given = requests.map((one) => this.outage.fallback.admit(one))
      if (sent !== undefined) this.outage.late(given, sent)
      return given
    })
  }

  peeks(requests: readonly AdmissionRequest[], send: () => Promise<CheckDecision[]>): Promise<CheckDecision[]> {
    return this.sent(send, () => requests.map((one) => this.outage.fallback.peek(one)))
  }

  record(request: AdmissionRequest): Promise<Admission> {
    return this.sent(
      async () => this.store.record(request),
      (sent) => {
        const given = this.outage.fallback.record(request)
        if (sent !== undefined)
          this.outage.late(
            [given],
            sent.then((one) => [one]),
          )
        return given
      },
    )
  }

  settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): Promise<boolean> {
    return this.ended(
      request,
      () => this.outage.fallback.settle(request, actual, how),
      async () => this.store.settle(request, actual, how),
      () => this.outage.arrears.settle(request, actual, how),
      how === 'end',
    )
  }

  release(request: AdmissionRequest): Promise<boolean> {
    return this.ended(
      request,
      () => this.outage.fallback.release(request),
      async () => this.store.release(request),
      () => this.outage.arrears.release(request),
      true,
    )
  }

  /** @throws StoreUnavailable */
  reset(request: AdmissionRequest): Promise<void> {
    return this.sent(async () => this.store.reset(request), this.unavailable)
  }

  /** An algorithm of a user's own has no shares: it is refused, or, where the option says so, asked as for a key that nobody has used. */
  compareAndSet(name: string, key: string, was: string, becomes: string, keepMs: number): Promise<StateResult> {
    return this.sent(
      async () => this.store.compareAndSet(name, key, was, becomes, keepMs),
      () => {
        if (becomes !== '' && this.outage.fallback.letIn()) return { nowMs: Date.now(), written: true, state: becomes }
        if (becomes === '' && this.outage.fallback.lets) return { nowMs: Date.now(), written: false, state: '' }
        return this.unavailable()
      },
    )
  }

  /** What an agent says is learned by the fleet or not at all. @throws StoreUnavailable */
  reportUpstream(request: AdmissionRequest, report: UpstreamReport): Promise<UpstreamOutcome> {
    return this.sent(async () => this.store.reportUpstream(request, report), this.unavailable)
  }

  /** @throws StoreUnavailable */
  upstreamStatus(requests: readonly AdmissionRequest[]): Promise<readonly UpstreamStatus[]> {
    return this.sent(async () => this.store.upstreamStatus(requests), this.unavailable)
  }

  /** @throws StoreUnavailable */
  observations(): Promise<readonly Observation[]> {
    return this.sent(async () => this.store.observations(), this.unavailable)
  }

  /** @throws StoreUnavailable */
  figures(): Promise<LedgerFigures> {
    return this.sent(async () => this.store.figures(), this.unavailable)
  }

  private readonly unavailable = (): never => {
    throw new StoreUnavailable('Redis is away', { retryAfterMs: DEFAULTS.longestProbeMs, cause: this.outage.breaker.cause })
  }

  /** @param instead what is answered where Redis is away, or goes away meanwhile; given what was sent, if anything was */
  private async sent<T>(send: () => Promise<T>, instead: (sent: Promise<T> | undefined) => T): Promise<T> {
    const { breaker } = this.outage
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

  /**
   * The end of a call. Whether it was open Redis alone knows: while it is away it is taken to be.
   * @param here ends it if it was let in during this outage
   * @param defer has it ended when Redis is back
   * @param ends whether the call is over, and its slots are free
   */
  private async ended(request: AdmissionRequest, here: () => boolean, send: () => Promise<boolean>, defer: () => void, ends: boolean): Promise<boolean> {
    if (here()) return true
    const { arrears, breaker, fallback, takesReleases } = this.outage
    // Its charge may be among what is still being told: it must not end before.
    if (!breaker.away && arrears.size > 0) {
      defer()
      return true
    }
    if (takesReleases) {
      try {
        const open = await breaker.within(send())
        if (open && ends) fallback.endedElsewhere(request)
        return open
      } catch (error) {
        if (!isStoreError(error)) throw error
      }
    }
    return this.sent(send, () => {
      defer()
      if (ends) fallback.endedElsewhere(request)
      return true
    })
  }
}
