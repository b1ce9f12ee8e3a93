import type { AdmissionRequest } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import type { RejectDecision, RunDecision } from '../model/decision.js'
import type { Observation, UpstreamOutcome, UpstreamReport, UpstreamStatus } from '../model/upstream.js'

export type MaybePromise<T> = T | Promise<T>

/** A decision, and the call as it stands in the ledger if it was charged. */
export interface Admission {
  readonly decision: RunDecision | RejectDecision
  /** What `settle` and `release` take: the store may have given it a place in a ledger. */
  readonly request: AdmissionRequest
}

/** The state of a user's own algorithm, as a compare-and-set found it. */
export interface StateResult {
  /** The store's clock, in ms since the epoch. */
  readonly nowMs: number
  /** Whether the new state was written. */
  readonly written: boolean
  /** The state as it is now; '' where there is none. */
  readonly state: string
}

/** What became of everything that was charged and not for good. */
export interface LedgerFigures {
  /** Charged, and not settled yet. */
  readonly open: number
  readonly settled: number
  /** Given back: they were not made. */
  readonly released: number
  /** Not settled within a day; their estimates stay charged. */
  readonly expired: number
  /** The per cent of the tokens estimated for settled calls that they did not use; below 0 where they used more. Null before any. */
  readonly overEstimatedPercent: number | null
}

/** How much of the estimated tokens of settled calls they did not use, in per cent; null before any. */
export function overEstimatedPercent(estimated: number, actual: number): number | null {
  return estimated === 0 ? null : (100 * (estimated - actual)) / estimated
}

/** Meters and the ledger: what calls may use, and what they have used. */
export interface QuotaStore {
  /**
   * Charges every meter if all have room, and none if not. Refused because it can never fit: reason 'too_big', or 'closed' where the limit is 0. An
   * id (`request.id`) with an open entry is answered again and charged once. Leaves an open entry, but where `request.forGood`.
   *
   * An id with an open entry under another token is that of another call. This method and the four below then throw a TollgateError with the code
   * ID_TAKEN, and change nothing.
   */
  admit(request: AdmissionRequest): MaybePromise<Admission>
  /** What `admit` would decide; changes nothing. */
  peek(request: AdmissionRequest): MaybePromise<RunDecision | RejectDecision>
  /** Charges whether there is room or not; what is above a limit is debt. */
  record(request: AdmissionRequest): MaybePromise<Admission>
  /**
   * Replaces what was charged by what the call has cost: what is less goes back, to the window that was charged only; what is more is charged in
   * full. Closes the entry; a second time changes nothing. With 'part' the entry stays open, and nothing goes back.
   * @returns whether there was an open entry
   */
  settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): MaybePromise<boolean>
  /** Gives everything back, as if the call had never been asked for. @returns whether there was an open entry */
  release(request: AdmissionRequest): MaybePromise<boolean>
  /**
   * Forgets what the meters that the call names have counted; lifts the block that is one of them.
   * @param by the actor, for a store that keeps the audit itself
   */
  reset(request: AdmissionRequest, by?: string): MaybePromise<void>
  figures(): MaybePromise<LedgerFigures>
}

/** What agents say of their own limits. */
export interface UpstreamStore {
  /**
   * Takes in a report of an agent about its limits: see `lua/report-upstream.lua`. The block's meter is
   * the last of those that the call names. Where the call has an open entry it is given back.
   */
  reportUpstream(request: AdmissionRequest, report: UpstreamReport): MaybePromise<UpstreamOutcome>
  /** What is known of the agents of these calls, by the block's meter, the last that each names. */
  upstreamStatus(requests: readonly AdmissionRequest[]): MaybePromise<readonly UpstreamStatus[]>
  /** What agents were seen to allow, of up to a thousand agents, endpoints and models. */
  observations(): MaybePromise<readonly Observation[]>
}

/** The states of algorithms of a user's own. */
export interface StateStore {
  /**
   * Compare and set: writes `becomes` under a name and key if the state is still `was` ('' = none),
   * to be kept for `keepMs` after that; `becomes` '' only reads.
   */
  compareAndSet(name: string, key: string, was: string, becomes: string, keepMs: number): MaybePromise<StateResult>
}

/**
 * Where meters and the ledger are kept: in Redis, for a fleet, or in memory, for one process. `storeContract` of `tollgate/store-contract` is what
 * any store must pass.
 *
 * A call names its meters in `request.meters`: each is a rule's limits for one scope value. The store keeps the usage of each limit under rule name,
 * limit name and scope value, by the store's own clock, and by the algorithms in `ALGORITHMS`. Each method is atomic: two calls at once come out as
 * if one had come after the other.
 */
export interface Store extends QuotaStore, UpstreamStore, StateStore {}
