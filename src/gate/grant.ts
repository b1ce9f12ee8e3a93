import { DecisionAnswer } from '../admission/answer.js'
import type { AdmissionRequest } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import type { CallUsage } from '../pricing/usage.js'
import type { Admission, Store } from '../store/store.js'

/** What a grant needs of whoever gave it. */
export interface Granter {
  readonly store: Store
  /** What a usage says that a call has cost. */
  actual(usage: CallUsage | undefined): ActualCosts
  /** Room came back at these meters: who waits for it in this process is looked at. */
  freed(request: AdmissionRequest): void
}

/** A check that was charged, or refused and not charged. */
export class Grant extends DecisionAnswer {
  readonly #granter: Granter
  readonly #request: AdmissionRequest

  constructor(granter: Granter, { request, decision }: Admission) {
    super(decision)
    this.#granter = granter
    this.#request = request
  }

  /** Replaces the estimate by what the call really used; settling again changes nothing. Returns whether it was open. */
  settle(usage?: CallUsage): Promise<boolean> {
    return this.end((store) => store.settle(this.#request, this.#granter.actual(usage), 'end'))
  }

  /**
   * Says what the call has used so far, all in all, while it goes on (a stream): what exceeds
   * its charge is charged at once, nothing goes back. Returns whether it was open.
   */
  async settlePart(usage: CallUsage): Promise<boolean> {
    return this.allowed && (await this.#granter.store.settle(this.#request, this.#granter.actual(usage), 'part'))
  }

  /** Gives back everything, as if the call had never been asked for: it was not made. */
  release(): Promise<boolean> {
    return this.end((store) => store.release(this.#request))
  }

  private async end(how: (store: Store) => boolean | Promise<boolean>): Promise<boolean> {
    if (!this.allowed) return false
    const ended = await how(this.#granter.store)
    if (ended) this.#granter.freed(this.#request)
    return ended
  }
}
