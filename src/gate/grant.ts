import { DecisionAnswer } from '../admission/answer.js'
import type { AdmissionRequest } from '../admission/request.js'
import { type ActualCosts, AS_ESTIMATED } from '../model/cost.js'
import { type CallUsage, completed, mergeParts } from '../pricing/usage.js'
import type { Admission, Store } from '../store/store.js'

/** What a grant needs of its gate. */
export interface Granter {
  readonly store: Store
  /** A usage as it was given, read. */
  read(usage: CallUsage | undefined): CallUsage | undefined
  /** The cost of the call by its usage. */
  actual(usage: CallUsage | undefined): ActualCosts
  /** The call has ended, and cost this. */
  settled(actual: ActualCosts): void
  /** Room came back at the meters of this request: wakes the calls of this process that wait for it. */
  freed(request: AdmissionRequest): void
}

/** The result of `admit`: a call that was charged, or refused and not charged. */
export class Grant extends DecisionAnswer {
  readonly #granter: Granter
  readonly #request: AdmissionRequest
  /** Whether this grant was ended: a later call may have its id by now. */
  #ended = false
  /** What `settlePart` reported so far. */
  #parts: CallUsage | undefined

  constructor(granter: Granter, { request, decision }: Admission) {
    super(decision)
    this.#granter = granter
    this.#request = request
  }

  /** Replaces the estimate by the usage of the call; settling again changes nothing. Returns whether it was open. */
  async settle(usage?: CallUsage): Promise<boolean> {
    let actual = AS_ESTIMATED
    const ended = await this.end((store) => {
      actual = this.#granter.actual(completed(this.#granter.read(usage), this.#parts))
      return store.settle(this.#request, actual, 'end')
    })
    if (ended) this.#granter.settled(actual)
    return ended
  }

  /**
   * Settles the usage so far of a call that goes on (a stream): usage above its charge is charged at once, nothing is given back. Each field keeps
   * its largest value, so a part may leave out what another one said. Returns whether it was open.
   */
  async settlePart(usage: CallUsage): Promise<boolean> {
    if (!this.allowed || this.#ended) return false
    this.#parts = mergeParts(this.#parts ?? {}, this.#granter.read(usage) ?? {})
    return this.#granter.store.settle(this.#request, this.#granter.actual(this.#parts), 'part')
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
