import type { DegradeDecision, ExpiredDecision, RejectDecision, RunDecision, WaitDecision } from '../decision.js'
import type { TollgateError } from '../errors.js'
import type { Results } from './results.js'

/** What an app holds of an enqueued call. */
export class Ticket {
  /** The id of the call and of its BullMQ job; '' where the call was not valid. */
  readonly id: string
  /** What the gate said at the front door; undefined where the call was not valid, or a call of its id was there already. */
  readonly decision: RunDecision | DegradeDecision | WaitDecision | RejectDecision | ExpiredDecision | undefined
  /** Why the call was refused; undefined where it was accepted. */
  readonly error: TollgateError | undefined
  private readonly results: Results

  constructor(id: string, decision: Ticket['decision'], error: TollgateError | undefined, results: Results) {
    this.id = id
    this.decision = decision
    this.error = error
    this.results = results
  }

  /**
   * What the handler returned. @throws TollgateError with the reason where the call failed,
   * was refused or cancelled; whatever the signal gives where it is aborted (the call goes on)
   */
  async result(options: { signal?: AbortSignal } = {}): Promise<unknown> {
    if (this.error !== undefined) throw this.error
    return this.results.wait(this.id, options.signal)
  }
}
