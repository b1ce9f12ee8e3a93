import type { Cost } from './cost.js'

/** The longest identifier (agent, user, …) in characters. */
export const MAX_NAME_LENGTH = 256
/** The largest cost and the largest limit, in any unit. Doubles hold whole numbers exactly up to 9 × 10¹⁵. */
export const MAX_AMOUNT = 1e12
/** Priorities are whole numbers from -MAX_PRIORITY to MAX_PRIORITY; the higher one goes first. */
export const MAX_PRIORITY = 4000

/** One outbound invocation of an external agent. */
export interface Call {
  /** Chosen by the caller to make enqueueing idempotent; generated otherwise. At most 256 characters, no ':'. */
  id?: string | undefined
  agent: string
  endpoint?: string | undefined
  model?: string | undefined
  user?: string | undefined
  team?: string | undefined
  org?: string | undefined
  ip?: string | undefined
  /** Values for rules whose scope is `keys.<name>`. */
  keys?: Record<string, string> | undefined
  /** The expected cost. A unit that a rule counts and the call leaves out is estimated. */
  cost?: Cost | undefined
  /** A whole number from -4000 to 4000; default 0. In a line calls of a higher priority go first, then the earlier ones. */
  priority?: number | undefined
  /** Takes the place of the strategy of every rule that covers the call. */
  strategy?: Strategy | undefined
  /** The call expires, at no cost, if it has not started by then. A Date, or ISO 8601 with its offset; by Redis' clock. */
  deadline?: string | Date | undefined
  /**
   * The longest wait for the start, in ms from 1 to a year; takes the place of the rules' `maxWaitMs`. Default: no bound.
   * Where the agent refuses the call it counts anew from the first refusal on, however often the call returns to its line.
   */
  maxWaitMs?: number | undefined
  /** How often the call may return to its line because its agent refused it, 0 to a million; then it fails. Default: that of its worker, else 10. */
  maxReturns?: number | undefined
  /** While a call with this key waits or runs, enqueueing another one returns the ticket of the first. */
  deduplicationKey?: string | undefined
  /**
   * Default false. In degraded mode a call is charged to the `degraded` limits of graceful rules instead of their limits.
   * Tollgate sets this field where a graceful rule has no room.
   */
  degraded?: boolean | undefined
  /** Handed to the handler; anything that JSON can hold. */
  payload?: unknown
}

export const STRATEGIES = ['queue', 'throttle', 'graceful', 'retry_after', 'hard'] as const
/**
 * What happens to a call for which a rule has no room.
 * - queue: it waits in line.
 * - throttle: its start is delayed; refused where the delay would exceed the rule's `maxDelayMs`.
 * - graceful: it runs at once in degraded mode.
 * - retry_after: it is refused, and the error says after how many ms it would pass.
 * - hard: it is refused without such a time.
 * - custom:<name>: the function of that name, given to `Tollgate.open({ strategies })`, decides.
 */
export type Strategy = (typeof STRATEGIES)[number] | `custom:${string}`
/** The largest `maxReturns`. */
export const MAX_RETURNS = 1_000_000
/** The largest `maxWaitMs`: a year. */
export const MAX_WAIT_MS = 365 * 86_400_000
