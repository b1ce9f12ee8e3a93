import type { RejectDecision, RunDecision, Usage } from '../model/decision.js'

/** What the gate says to a check, in the field's usual words. */
export interface Answer {
  readonly allowed: boolean
  /** The limit that refused, as "rule/limit" (of a limiter: its name); null where nothing did, or Redis is away. */
  readonly limitExceeded: string | null
  /** What is left at the tightest limit, in its unit; null where no limit covers the call. */
  readonly remaining: number | null
  /** When the tightest limit is as if unused; null where no limit covers the call, or never (what was used before its limit became 0). */
  readonly resetAt: Date | null
  /** Ms until the same call would pass: 0 if it does now, null where it never can or nobody can know. */
  readonly retryAfterMs: number | null
  /** Every limit that covers the call. */
  readonly usage: readonly Usage[]
}

/** Dates know no later time. */
const LATEST_DATE_MS = 8.64e15

/** The one of which the smallest part is left. */
function tightest(usage: readonly Usage[]): Usage | null {
  const share = (one: Usage) => (one.capacity === 0 ? 0 : one.remaining / one.capacity)
  return usage.reduce<Usage | null>((least, one) => (least === null || share(one) < share(least) ? one : least), null)
}

/** A decision as an answer. What it tells besides `allowed` is worked out when it is asked for. */
export class DecisionAnswer implements Answer {
  readonly allowed: boolean
  readonly decision: RunDecision | RejectDecision
  #tightest: Usage | null | undefined

  constructor(decision: RunDecision | RejectDecision) {
    this.allowed = decision.outcome === 'run'
    this.decision = decision
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

  /** For logs and answers over HTTP: getters are what JSON would leave out. */
  toJSON(): Answer {
    const { allowed, limitExceeded, remaining, resetAt, retryAfterMs, usage } = this
    return { allowed, limitExceeded, remaining, resetAt, retryAfterMs, usage }
  }

  private get tight(): Usage | null {
    if (this.#tightest === undefined) this.#tightest = tightest(this.decision.usage)
    return this.#tightest
  }
}
