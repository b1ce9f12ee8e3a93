import type { Cost } from './cost.js'

/** The longest identifier (agent, user, …) in characters. */
export const MAX_NAME_LENGTH = 256
/** The largest cost and limit. Doubles count exactly well beyond it. */
export const MAX_AMOUNT = 1e12
/** Priorities reach from minus this to this; the higher goes first. */
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
  /** What the call is expected to cost. What is not given and counted by a rule is estimated. */
  cost?: Cost | undefined
  /** Higher goes first, whatever arrived before; default 0. */
  priority?: number | undefined
  /** Overrides the strategy of the rules for this call. */
  strategy?: Strategy | undefined
  /** When it is too late to start it: a Date, or ISO 8601 with its offset. By Redis' clock. */
  deadline?: string | Date | undefined
  /** How long it may wait to start, in ms, anew where its agent sends it back; goes before that of the rules. Default: for as long as it takes. */
  maxWaitMs?: number | undefined
  /** While a call with this key is on its way, enqueueing another one answers with the ticket of the first. */
  deduplicationKey?: string | undefined
  /** Runs in degraded mode from the start: charged to the allowances of graceful rules. Tollgate sets it where a graceful rule has no room. */
  degraded?: boolean | undefined
  /** What the handler gets; anything JSON can hold. */
  payload?: unknown
}

export const STRATEGIES = ['queue', 'throttle', 'graceful', 'retry_after', 'hard'] as const
/**
 * What happens to a call that has no room. queue: waits in line. throttle: is slowed, and refused
 * where that would take too long. graceful: runs at once in degraded mode. retry_after: is refused,
 * with the time from which it would pass. hard: is refused. custom:<name>: as your own code says.
 */
export type Strategy = (typeof STRATEGIES)[number] | `custom:${string}`
/** The longest that a wait may be bounded to. */
export const MAX_WAIT_MS = 365 * 86_400_000
