import type { CostUnit } from './cost.js'

/** Headers as clients have them: `Headers`, or a plain object. */
export type HeadersLike = Headers | Readonly<Record<string, string | readonly string[] | number | null | undefined>>

/** One limit as an agent tells of it in its headers. */
export interface ObservedLimit {
  /** How much it allows per window. */
  readonly limit: number
  /** What is left of that; null where it does not say. */
  readonly remaining: number | null
  /** Milliseconds until all of it is back; null where it does not say. */
  readonly resetMs: number | null
  /** The length of its window; null where that cannot be told. */
  readonly windowMs: number | null
}

/** What an agent's headers tell of its limits, by unit. */
export type ObservedLimits = Readonly<Partial<Record<CostUnit, ObservedLimit>>>

/** Whom an agent's words are about: one agent, endpoint and model, and nobody else. */
export interface UpstreamName {
  readonly agent: string
  readonly endpoint?: string | undefined
  readonly model?: string | undefined
}

/** What an agent said. Refused: a call was. Paused: nothing is left, nobody is to go for a while. Observed: only what its limits are. */
export interface UpstreamReport {
  readonly kind: 'refused' | 'paused' | 'observed'
  /** For how long it asked to be left alone; 0 where it did not. */
  readonly retryAfterMs: number
  /** By what a refusal multiplies the capacity. */
  readonly reduceFactor: number
  readonly name: UpstreamName
  readonly observed: ObservedLimits | null
}

/** What is known of an agent, endpoint and model; times by the store's clock, in ms since the epoch, 0 = never. */
export interface UpstreamStatus {
  readonly atMs: number
  /** Nothing starts before this. */
  readonly blockedUntilMs: number
  /** The part of its limits that is used, in (0, 1]. */
  readonly factor: number
  /** When it began to recover; 0 while a canary is due. */
  readonly sinceMs: number
  readonly cutAtMs: number
  /** When all of this is over. */
  readonly overMs: number
  /** Whether one call is to go, or has gone, ahead of the others. */
  readonly canary: boolean
}

export interface UpstreamOutcome extends UpstreamStatus {
  /** Whether its capacity was cut; not so where others in flight were refused before. */
  readonly cut: boolean
}

/** What was observed last, and when. */
export interface Observation {
  readonly name: UpstreamName
  readonly limits: ObservedLimits
  readonly atMs: number
}

/** Of so many agents, endpoints and models a store keeps what was observed. */
export const OBSERVED_AT_MOST = 1000

/** What nothing is known of. */
export function openUpstream(atMs: number): UpstreamStatus {
  return { atMs, blockedUntilMs: 0, factor: 1, sinceMs: 0, cutAtMs: 0, overMs: 0, canary: false }
}

/** The same for the same agent, endpoint and model. */
export function upstreamKey({ agent, endpoint, model }: UpstreamName): string {
  return JSON.stringify({ agent, endpoint, model })
}
