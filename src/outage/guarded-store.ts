import type { Asked } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import type { RejectDecision, RunDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable } from '../model/errors.js'
import type { Announced, Announcement, Known, Observation } from '../model/upstream.js'
import { isStoreError } from '../redis/store-error.js'
import type { Around } from '../store/redis/redis-store.js'
import type { Admission, LedgerFigures, MaybePromise, Store, Swapped } from '../store/store.js'
import type { Outage } from './outage.js'

type Verdict = RunDecision | RejectDecision

/**
 * The store in Redis, as one process sees it that goes on while Redis is away. What is asked then
 * is answered at once, without it. What was on its way when it went is answered as if it had never
 * been sent, and reconciled when its own answer comes, see `Outage`.
 */
export class GuardedStore implements Store, Around {
  private readonly store: Store
  private readonly outage: Outage

  /** @param make the store in Redis, which hands what it sends to this one */
  constructor(make: (around: Around) => Store, outage: Outage) {
    this.outage = outage
    this.store = make(this)
    outage.pays({
      settle: async (asked, actual, how) => this.store.settle(asked, actual, how),
      release: async (asked) => this.store.release(asked),
    })
  }

  admit(asked: Asked): MaybePromise<Admission> {
    return this.outage.breaker.away ? this.outage.fallback.admit(asked) : this.store.admit(asked)
  }

  peek(asked: Asked): MaybePromise<Verdict> {
    return this.outage.breaker.away ? this.outage.fallback.peek(asked) : this.store.peek(asked)
  }

  admits(asked: readonly Asked[], send: () => Promise<Admission[]>): Promise<Admission[]> {
    return this.sent(send, (sent) => {
      const given = asked.map((one) => this.outage.fallback.admit(one))
      if (sent !== undefined) this.outage.late(given, sent)
      return given
    })
  }

  peeks(asked: readonly Asked[], send: () => Promise<Verdict[]>): Promise<Verdict[]> {
    return this.sent(send, () => asked.map((one) => this.outage.fallback.peek(one)))
  }

  record(asked: Asked): Promise<Admission> {
    return this.sent(
      async () => this.store.record(asked),
      (sent) => {
        const given = this.outage.fallback.record(asked)
        if (sent !== undefined)
          this.outage.late(
            [given],
            sent.then((one) => [one]),
          )
        return given
      },
    )
  }

  settle(asked: Asked, actual: ActualCosts, how: 'end' | 'part'): Promise<boolean> {
    return this.ended(
      asked,
      () => this.outage.fallback.settle(asked, actual, how),
      async () => this.store.settle(asked, actual, how),
      () => this.outage.arrears.settle(asked, actual, how),
      how === 'end',
    )
  }

  release(asked: Asked): Promise<boolean> {
    return this.ended(
      asked,
      () => this.outage.fallback.release(asked),
      async () => this.store.release(asked),
      () => this.outage.arrears.release(asked),
      true,
    )
  }

  /** @throws StoreUnavailable */
  reset(asked: Asked): Promise<void> {
    return this.sent(async () => this.store.reset(asked), this.unavailable)
  }

  /** An algorithm of a user's own has no shares: it is refused, or, where the option says so, asked as for a key that nobody has used. */
  swap(name: string, key: string, was: string, becomes: string, keepMs: number): Promise<Swapped> {
    return this.sent(
      async () => this.store.swap(name, key, was, becomes, keepMs),
      () => {
        if (becomes !== '' && this.outage.fallback.letIn()) return { nowMs: Date.now(), written: true, state: becomes }
        if (becomes === '' && this.outage.fallback.lets) return { nowMs: Date.now(), written: false, state: '' }
        return this.unavailable()
      },
    )
  }

  /** What an agent says is learned by the fleet or not at all. @throws StoreUnavailable */
  announce(asked: Asked, announcement: Announcement): Promise<Announced> {
    return this.sent(async () => this.store.announce(asked, announcement), this.unavailable)
  }

  /** @throws StoreUnavailable */
  known(asked: readonly Asked[]): Promise<readonly Known[]> {
    return this.sent(async () => this.store.known(asked), this.unavailable)
  }

  /** @throws StoreUnavailable */
  observed(): Promise<readonly Observation[]> {
    return this.sent(async () => this.store.observed(), this.unavailable)
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
  private async ended(asked: Asked, here: () => boolean, send: () => Promise<boolean>, defer: () => void, ends: boolean): Promise<boolean> {
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
        if (open && ends) fallback.endedElsewhere(asked)
        return open
      } catch (error) {
        if (!isStoreError(error)) throw error
      }
    }
    return this.sent(send, () => {
      defer()
      if (ends) fallback.endedElsewhere(asked)
      return true
    })
  }
}
