import type { DegradeDecision, ExpiredDecision, RejectDecision, RunDecision, WaitDecision } from '../model/decision.js'
import type { TollgateError } from '../model/errors.js'
import type { Results } from './results.js'

/** What an app holds of an enqueued call. */
export class Ticket {
  /**
   * @param id of the call and of its BullMQ job; '' where the call was not valid
   * @param decision of the gate at the enqueue; undefined where the call was not valid, or a call of its id existed
   * @param error why the call was refused; undefined where it was accepted
   */
  constructor(
    readonly id: string,
    readonly decision: RunDecision | DegradeDecision | WaitDecision | RejectDecision | ExpiredDecision | undefined,
    readonly error: TollgateError | undefined,
    private readonly results: Results,
    /** Of the call; undefined where it was not valid. */
    private readonly identity?: string,
  ) {}

  /**
   * What the handler returned. @throws TollgateError with the reason where the call failed,
   * was refused or cancelled; the signal's reason where it is aborted (the call goes on)
   */
  async result(options: { signal?: AbortSignal } = {}): Promise<unknown> {
    if (this.error !== undefined) throw this.error
    return this.results.wait(this.id, { ...options, identity: this.identity })
  }
}
