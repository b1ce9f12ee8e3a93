import type { Call, Strategy } from './call.js'
import type { Unit } from './cost.js'
import type { WaitReason } from './wait-reason.js'

/** The answer of a custom strategy: what happens to a call that has no room. */
export interface Verdict {
  /** allow: the call starts although the rule has no room; it is charged there as far as the limit goes. */
  readonly outcome: 'allow' | 'wait' | 'degrade' | 'reject'
  /** Only for `reject`: replaces the `retryAfterMs` of the error, in ms; null = unknown. Default: as Tollgate computed it. */
  readonly retryAfterMs?: number | null | undefined
}

/** A custom strategy: gets the refusal that the gate would answer, and decides what happens to the call. It may return that refusal itself. */
export type CustomStrategy = (decision: RejectDecision, call: Call) => Verdict | Promise<Verdict>

/** The state of one limit right after a decision. */
export interface Usage {
  readonly rule: string
  /** The name of the limit within its rule. */
  readonly limit: string
  /** The value that the rule counts by, such as a user's name, as it stands in the meter's key. */
  readonly scopeValue: string
  readonly unit: Unit
  /** The amount per window, as written in the rule; for a concurrency the number of slots. */
  readonly amount: number
  /** The length of its window; null for a concurrency, which has none. */
  readonly windowMs: number | null
  /** The most that the limit can hold at once: a bucket's burst, a window's limit, a concurrency's slots. */
  readonly capacity: number
  /** In the limit's unit; above `capacity` where a settlement left debt. */
  readonly used: number
  /** Reserved for calls that were woken from a line and are about to start. */
  readonly claimed: number
  readonly remaining: number
  /** Milliseconds until nothing is used any more; for a concurrency limit the length of its lease. */
  readonly resetMs: number
}

/**
 * The kind of a compiled rule.
 * - rule: a rule of the policy.
 * - degraded: the `degraded` limits of a graceful rule, which calls in degraded mode are charged to.
 * - pause: holds the calls that an operator paused.
 * - upstream: the block of an agent that refused calls.
 * - limiter: a limiter by key.
 */
export type RuleKind = 'rule' | 'degraded' | 'pause' | 'upstream' | 'limiter'

/** The binding limit of a call: the one it waits for, or was refused by. */
export interface Binding {
  readonly kind: RuleKind
  readonly rule: string
  readonly limit: string
  readonly scopeValue: string
  readonly unit: Unit | 'none'
}

interface DecisionBase {
  /** Redis' clock at the decision, in ms since the epoch. */
  readonly atMs: number
  /** Every limit that covers the call. */
  readonly usage: readonly Usage[]
}

/** The call may start. At its start it is charged; at enqueue it gets room reserved. */
export interface RunDecision extends DecisionBase {
  readonly outcome: 'run'
  /** Set by the strategy throttle: for how many ms the worker holds the call before it starts. */
  readonly delayMs?: number
  /** Set while its agent recovers from a refusal: the outcome of this call decides how the agent recovers, so it has to be reported. */
  readonly watched?: true
}

/** The call may start at once in degraded mode: it is charged to the `degraded` limits of graceful rules. */
export interface DegradeDecision extends DecisionBase {
  readonly outcome: 'degrade'
  /** The limit that had no room for the call in its normal mode. */
  readonly binding: Binding
  readonly watched?: true
}

/** The call stands in a line. */
export interface WaitDecision extends DecisionBase {
  readonly outcome: 'wait'
  /** Estimated ms until it starts; null where that is unknown: it waits for a slot that a running call holds, or for a pause to end. */
  readonly etaMs: number | null
  /**
   * By when it starts at the latest, where `etaMs` is the earliest: the two are equal where the time is known to within the lookahead (60 ms). null where
   * that is unknown.
   */
  readonly etaMaxMs: number | null
  /** The number of calls before it in its line. */
  readonly position: number
  readonly binding: Binding | null
  /** What it waits for; null where that is not known (a call that was enqueued again). */
  readonly waitsFor: WaitReason | null
}

/** The call was woken slightly before its room is there: its worker holds it for `waitMs`, then asks again. */
export interface HoldDecision extends DecisionBase {
  readonly outcome: 'hold'
  readonly waitMs: number
}

/** The call may not start. */
export interface RejectDecision extends DecisionBase {
  readonly outcome: 'reject'
  /**
   * - limited: a limit has no room now.
   * - too_big: the call costs more than a limit can ever hold.
   * - closed: a limit is 0.
   * - paused: an operator paused such calls.
   * - late: the call would start after its deadline.
   * - line_full: as many calls wait as the rule's `maxWaiting` allows.
   * - unavailable: Redis is away, so it is unknown whether there is room.
   */
  readonly reason: 'limited' | 'too_big' | 'closed' | 'paused' | 'late' | 'line_full' | 'unavailable'
  /** Ms until the same call would pass; null where it never can, the time is unknown, or a `hard` rule refused it. */
  readonly retryAfterMs: number | null
  readonly binding: Binding
  /** The strategy that refused the call; undefined where none applies, as at `tollgate.gate`. */
  readonly strategy?: Strategy | undefined
  /** Only for `late`: in how many ms the call would start. */
  readonly etaMs?: number
  /** Only for `line_full`: how many calls stand in that line. */
  readonly waiting?: number
}

/** The deadline of the call passed before it started: it costs nothing. */
export interface ExpiredDecision extends DecisionBase {
  readonly outcome: 'expired'
}

export type Decision = RunDecision | DegradeDecision | WaitDecision | HoldDecision | RejectDecision | ExpiredDecision
