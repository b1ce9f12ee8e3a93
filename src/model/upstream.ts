import type { CostUnit } from './cost.js'

/** HTTP headers as clients represent them: `Headers`, or a plain object. */
export type HeadersLike = Headers | Readonly<Record<string, string | readonly string[] | number | null | undefined>>

/** One limit of an agent, as reported by the rate-limit headers of an answer. */
export interface ObservedLimit {
  /** The amount per window. */
  readonly limit: number
  /** The amount that is left in the current window; null where the agent did not report it. */
  readonly remaining: number | null
  /** Milliseconds until the full limit is available again; null where the agent did not report it. */
  readonly resetMs: number | null
  /** The length of the window in ms; null where it is unknown. */
  readonly windowMs: number | null
}

/** The limits of an agent by unit, as its headers reported them. */
export type ObservedLimits = Readonly<Partial<Record<CostUnit, ObservedLimit>>>

/** What a report is about: exactly one agent, endpoint and model. */
export interface UpstreamName {
  readonly agent: string
  readonly endpoint?: string | undefined
  readonly model?: string | undefined
}

/**
 * What an answer of an agent says about its limits.
 * - refused: the agent refused a call (429 or the like); its capacity is cut, and no call starts for `retryAfterMs`.
 * - paused: the agent has nothing left; no call starts for `retryAfterMs`, and nothing is cut.
 * - observed: the agent reported its limits; nothing else changes.
 */
export interface UpstreamReport {
  readonly kind: 'refused' | 'paused' | 'observed'
  /** For how long no call may start, in ms; 0 for `observed`. */
  readonly retryAfterMs: number
  /** The factor in (0, 1] that the capacity is multiplied by where the report cuts it. */
  readonly reduceFactor: number
  readonly name: UpstreamName
  readonly observed: ObservedLimits | null
}

/** The state of an agent, endpoint and model in the store. Times are by the store's clock, in ms since the epoch; 0 = never. */
export interface UpstreamStatus {
  /** When this state was read. */
  readonly atMs: number
  /** No call starts before this time. */
  readonly blockedUntilMs: number
  /** The part of the agent's limits that is used, in (0, 1]. */
  readonly factor: number
  /** When the recovery began; 0 while a probe is due or under way. */
  readonly sinceMs: number
  /** When the capacity was last cut. */
  readonly cutAtMs: number
  /** When the agent is back at its full limits, unless something else is reported until then. */
  readonly overMs: number
  /** Whether a probe (one call ahead of all others, after a block) is due or under way. */
  readonly canary: boolean
}

/** The state after a report. */
export interface UpstreamOutcome extends UpstreamStatus {
  /** Whether this report cut the capacity. It does not where another call of the same burst was refused before: one cut per burst. */
  readonly cut: boolean
}

/** The limits that an agent reported last, and when by the store's clock, in ms since the epoch. */
export interface Observation {
  readonly name: UpstreamName
  readonly limits: ObservedLimits
  readonly atMs: number
}

/** The number of agents, endpoints and models whose observed limits a store keeps. */
export const OBSERVED_AT_MOST = 1000

/** The state of an agent that never refused a call. */
export function openUpstream(atMs: number): UpstreamStatus {
  return { atMs, blockedUntilMs: 0, factor: 1, sinceMs: 0, cutAtMs: 0, overMs: 0, canary: false }
}

/** A key that is equal for equal agent, endpoint and model. */
export function upstreamKey({ agent, endpoint, model }: UpstreamName): string {
  return JSON.stringify({ agent, endpoint, model })
}

/** The name of the rule of blocks. Names of rules in a policy contain no `~`. */
export const BLOCK_NAME = '~block'
/** The limit that binds a call while its agent is blocked, or is probed. */
export const BLOCK_LIMIT = 'retry-after'
