import { identityOf } from '../../admission/identity.js'
import type { CallRequest, Settlement } from '../../admission/request.js'
import { COST_UNITS } from '../../model/cost.js'
import type { RejectDecision, RunDecision } from '../../model/decision.js'
import type { TollgateError } from '../../model/errors.js'

/** Numbers the batches of starts of one worker. */
export interface Sender {
  /** Unlike that of any other worker. */
  readonly name: string
  /** The next number, from 1. */
  next(): number
}

/** What the gate decides on a call; ID_TAKEN where its id is that of another call. */
export type GateDecision = RunDecision | RejectDecision | TollgateError

/** What is sent beside the requests that a script decides on. */
export interface DecideOptions {
  readonly onTheirWay: boolean
  readonly ended?: readonly Settlement[]
  readonly stored?: readonly string[]
  /** The queue of calls at the front door. */
  readonly queue?: string
  /** The line that each call stands in, '' = none. */
  readonly lines?: readonly string[]
  readonly sender?: Sender | undefined
}

/** The call as it is kept beside its place in line: its identity first, then what decides about it, with its costs, and no payload. `waits` as in its request. */
export function storedCall({ call, costs, identity, strategy }: CallRequest): string {
  const { payload: _payload, id: _id, ...rest } = call
  const known = COST_UNITS.filter((unit) => costs[unit] > 0).map((unit) => [unit, costs[unit]])
  return JSON.stringify({
    is: identity ?? identityOf(call),
    ...rest,
    ...(strategy === 'waits' ? { waits: true } : {}),
    cost: { ...call.cost, ...Object.fromEntries(known) },
  })
}
