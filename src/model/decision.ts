import type { Call, Strategy } from './call.js'
import type { Unit } from './cost.js'

/** What becomes of a call that has no room, as your own code says. */
export interface Verdict {
  readonly outcome: 'wait' | 'degrade' | 'reject'
  /** Of `reject`: what the app is told instead of the time from which the call would pass. */
  readonly retryAfterMs?: number | null | undefined
}

/** Your own strategy: from what the gate would answer, to what becomes of the call. It may answer the decision it was given. */
export type CustomStrategy = (decision: RejectDecision, call: Call) => Verdict | Promise<Verdict>

/** How one limit stands, right after a decision. */
export interface Usage {
  readonly rule: string
  /** The name of the limit within its rule. */
  readonly limit: string
  /** Whom the rule counts by, as in its keys. */
  readonly scopeValue: string
  readonly unit: Unit
  /** What the limit can hold at once: its burst, its window's limit, its slots. */
  readonly capacity: number
  /** In the limit's unit; above `capacity` where a settlement left debt. */
  readonly used: number
  /** Kept for calls that were woken and start in a moment. */
  readonly claimed: number
  readonly remaining: number
  /** Milliseconds until nothing is used any more; a concurrency's is the lease's length. */
  readonly resetMs: number
}

/**
 * What a rule is. rule: one of the policy. degraded: what calls may use in degraded mode, of a
 * graceful rule. pause: calls that are paused. upstream: what an agent said of its limits.
 * limiter: a limiter by key.
 */
export type RuleKind = 'rule' | 'degraded' | 'pause' | 'upstream' | 'limiter'

/** The rule and limit that a call waits for or was refused by. */
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

/** May start: charged, or (at the front door) promised room. */
export interface RunDecision extends DecisionBase {
  readonly outcome: 'run'
  /** By how many ms its start was put off by throttle: its worker holds it for so long. */
  readonly delayMs?: number
  /** Its agent has asked to be left alone of late: how the call ends matters to the others. */
  readonly watched?: true
}

/** May start at once in degraded mode: charged to the allowances of graceful rules. */
export interface DegradeDecision extends DecisionBase {
  readonly outcome: 'degrade'
  /** What had no room for the call as it was. */
  readonly binding: Binding
  readonly watched?: true
}

/** Stands in line. */
export interface WaitDecision extends DecisionBase {
  readonly outcome: 'wait'
  /** Estimated ms until it starts; null where nobody can know (it waits for calls that run, or until it is resumed). */
  readonly etaMs: number | null
  /** How many go before it in its line. */
  readonly position: number
  readonly binding: Binding | null
}

/** Was woken a moment early: its worker keeps it for this long. */
export interface HoldDecision extends DecisionBase {
  readonly outcome: 'hold'
  readonly waitMs: number
}

/** May not start. */
export interface RejectDecision extends DecisionBase {
  readonly outcome: 'reject'
  /**
   * limited: no room. too_big: it never fits. closed: the limit is 0. paused: such calls are paused.
   * late: it would start after its deadline. line_full: as many wait as the rule allows.
   * unavailable: nobody knows whether it has room, as Redis is away.
   */
  readonly reason: 'limited' | 'too_big' | 'closed' | 'paused' | 'late' | 'line_full' | 'unavailable'
  /** Ms until the same call would pass; null where it never can, nobody can know, or a `hard` rule refused. */
  readonly retryAfterMs: number | null
  readonly binding: Binding
  /** The strategy that refused it; undefined where nobody was asked for one: of the gate without the queue. */
  readonly strategy?: Strategy | undefined
  /** Of one that is late: in how many ms it would start. */
  readonly etaMs?: number
  /** Of a full line: how many stand in it. */
  readonly waiting?: number
}

/** Its deadline passed before it started: it costs nothing. */
export interface ExpiredDecision extends DecisionBase {
  readonly outcome: 'expired'
}

export type Decision = RunDecision | DegradeDecision | WaitDecision | HoldDecision | RejectDecision | ExpiredDecision
