import type { Unit } from './rules/limit.js'

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

/** The rule and limit that a call waits for or was refused by. */
export interface Binding {
  readonly rule: string
  readonly limit: string
  readonly scopeValue: string
  readonly unit: Unit | 'none'
}

interface Decided {
  /** Redis' clock at the decision, in ms since the epoch. */
  readonly atMs: number
  /** Every limit that covers the call. */
  readonly usage: readonly Usage[]
}

/** May start: charged, or (at the front door) promised room. */
export interface RunDecision extends Decided {
  readonly outcome: 'run'
}

/** Stands in line. */
export interface WaitDecision extends Decided {
  readonly outcome: 'wait'
  /** Estimated ms until it starts; null where nobody can know (it waits for calls that run). */
  readonly etaMs: number | null
  /** How many go before it in its line. */
  readonly position: number
  readonly binding: Binding | null
}

/** Was woken a moment early: its worker keeps it for this long. */
export interface HoldDecision extends Decided {
  readonly outcome: 'hold'
  readonly waitMs: number
}

/** May not start. */
export interface RejectDecision extends Decided {
  readonly outcome: 'reject'
  /** 'unavailable': nobody knows whether it has room, as Redis is away. */
  readonly reason: 'limited' | 'too_big' | 'closed' | 'unavailable'
  /** Ms until the same call would pass; null where it never can, or nobody can know. */
  readonly retryAfterMs: number | null
  readonly binding: Binding
}

export type Decision = RunDecision | WaitDecision | HoldDecision | RejectDecision
