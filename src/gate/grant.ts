import { DecisionAnswer } from '../admission/answer.js'
import type { AdmissionRequest } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import type { CallUsage } from '../pricing/usage.js'
import type { Admission, Store } from '../store/store.js'

/** What a grant needs of its gate. */
export interface Granter {
  readonly store: Store
  /** The cost of the call by its usage. */
  actual(usage: CallUsage | undefined): ActualCosts
  /** Room came back at the meters of this request: wakes the calls of this process that wait for it. */
  freed(request: AdmissionRequest): void
}

/** The result of `admit`: a call that was charged, or refused and not charged. */
export class Grant extends DecisionAnswer {
  readonly #granter: Granter
  readonly #request: AdmissionRequest
  /** Whether this grant was ended: a later call may have its id by now. */
  #ended = false

  constructor(granter: Granter, { request, decision }: Admission) {
    super(decision)
    this.#granter = granter
    this.#request = request
  }

  /** Replaces the estimate by the usage of the call; settling again changes nothing. Returns whether it was open. */
  settle(usage?: CallUsage): Promise<boolean> {
    return this.end((store) => store.settle(this.#request, this.#granter.actual(usage), 'end'))
  }

  /**
   * Settles the whole usage so far of a call that goes on (a stream): usage above its charge is
   * charged at once, nothing is given back. Returns whether it was open.
   */
  async settlePart(usage: CallUsage): Promise<boolean> {
    return this.allowed && !this.#ended && (await this.#granter.store.settle(this.#request, this.#granter.actual(usage), 'part'))
  }

  /** Gives back the whole charge: the call was not made. */
  release(): Promise<boolean> {
    return this.end((store) => store.release(this.#request))
  }

  private async end(how: (store: Store) => boolean | Promise<boolean>): Promise<boolean> {
    if (!this.allowed || this.#ended) return false
    const ended = await how(this.#granter.store)
    this.#ended ||= ended
    if (ended) this.#granter.freed(this.#request)
    return ended
  }
}
