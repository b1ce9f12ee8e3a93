import type { RejectDecision, RunDecision, Usage } from '../model/decision.js'

/** The answer of a check: whether the call may start, and how its limits stand. */
export interface Answer {
  readonly allowed: boolean
  /** The limit that refused the call, as "rule/limit" (for a limiter by key: the limit's name); null where none did, or Redis is away. */
  readonly limitExceeded: string | null
  /** The amount that is left at the tightest limit, in its unit; null where no limit covers the call. */
  readonly remaining: number | null
  /** When the tightest limit is unused again; null where no limit covers the call, or that never happens (a limit of 0 that was used before). */
  readonly resetAt: Date | null
  /** Ms until the same call would pass: 0 if it passes now, null where it never can or the time is unknown. */
  readonly retryAfterMs: number | null
  /** Every limit that covers the call. */
  readonly usage: readonly Usage[]
}

const LATEST_DATE_MS = 8.64e15

/** The limit of which the smallest part is left; null where there is none. */
function tightest(usage: readonly Usage[]): Usage | null {
  const share = (one: Usage) => (one.capacity === 0 ? 0 : one.remaining / one.capacity)
  return usage.reduce<Usage | null>((least, one) => (least === null || share(one) < share(least) ? one : least), null)
}

/** A decision as an answer. Its fields besides `allowed` are computed when they are read. */
export class DecisionAnswer implements Answer {
  readonly allowed: boolean
  #tightest: Usage | null | undefined

  constructor(readonly decision: RunDecision | RejectDecision) {
    this.allowed = decision.outcome === 'run'
  }

  get limitExceeded(): string | null {
    if (this.decision.outcome !== 'reject' || this.decision.reason === 'unavailable') return null
    const { kind, rule, limit } = this.decision.binding
    return kind === 'limiter' ? limit : `${rule}/${limit}`
  }

  get remaining(): number | null {
    return this.tight?.remaining ?? null
  }

  get resetAt(): Date | null {
    const atMs = this.decision.atMs + (this.tight?.resetMs ?? Number.NaN)
    return atMs <= LATEST_DATE_MS ? new Date(Math.ceil(atMs)) : null
  }

  get retryAfterMs(): number | null {
    if (this.decision.outcome !== 'reject') return 0
    return this.decision.retryAfterMs === null ? null : Math.ceil(this.decision.retryAfterMs)
  }

  get usage(): readonly Usage[] {
    return this.decision.usage
  }

  /** For logs and HTTP: JSON.stringify leaves getters out. */
  toJSON(): Answer {
    const { allowed, limitExceeded, remaining, resetAt, retryAfterMs, usage } = this
    return { allowed, limitExceeded, remaining, resetAt, retryAfterMs, usage }
  }

  private get tight(): Usage | null {
    if (this.#tightest === undefined) this.#tightest = tightest(this.decision.usage)
    return this.#tightest
  }
}
