import type { HealthReason, HealthState } from '../model/health-reason.js'

/** Whether work flows, as one look at the namespace found it. Times are ms since the epoch, by Redis' clock. */
export interface Health {
  readonly state: HealthState
  /** One of `HEALTH_REASONS`. */
  readonly reason: HealthReason
  /** Since when it holds; null where that is not known. */
  readonly sinceMs: number | null
  /** What happens, in 12 words at most. */
  readonly sentence: string
  /** Whom it hurts, in one sentence with numbers; '' where it hurts no call. */
  readonly whom: string
  /** Why, in one sentence. */
  readonly why: string
  /** The one thing to do: in words, and as one command to copy; the command is '' where there is none. */
  readonly next: { readonly text: string; readonly command: string }
  /** What it is about, for links; a field is null where it does not apply. */
  readonly of: {
    readonly rule: string | null
    readonly limit: string | null
    readonly scopeValue: string | null
    readonly agent: string | null
    readonly queue: string | null
    readonly call: string | null
    readonly org: string | null
  }
  /** The other reasons that hold at the same time, by weight, at most 7. */
  readonly also: readonly { readonly reason: HealthReason; readonly sentence: string; readonly sinceMs: number | null }[]
  /** The figures beside the verdict. */
  readonly figures: HealthFigures
  /** Of when the figures are. */
  readonly asOfMs: number
}

/** The namespace at one time. A figure is null where it is not known. */
export interface HealthFigures {
  /** Calls in line. */
  readonly waiting: number | null
  /** How long the longest waiting call that was looked at has been on its way. */
  readonly oldestMs: number | null
  /** Calls that run now, the places of all live workers, and how many these are. */
  readonly running: number | null
  readonly places: number | null
  readonly workers: number | null
  /** Whether a process dispatches. */
  readonly dispatched: boolean | null
  /** Calls per second over the last minute. */
  readonly arrivingPerSecond: number | null
  readonly startingPerSecond: number | null
}
