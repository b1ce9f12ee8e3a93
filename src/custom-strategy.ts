import type { Call } from './call.js'
import type { RejectDecision } from './decision.js'

/** What becomes of a call that has no room, as your own code says. */
export interface Verdict {
  readonly outcome: 'wait' | 'degrade' | 'reject'
  /** Of `reject`: what the app is told instead of the time from which the call would pass. */
  readonly retryAfterMs?: number | null | undefined
}

/** Your own strategy: from what the gate would answer, to what becomes of the call. It may answer the decision it was given. */
export type CustomStrategy = (decision: RejectDecision, call: Call) => Verdict | Promise<Verdict>
