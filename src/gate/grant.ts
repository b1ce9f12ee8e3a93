import type { CallUsage } from '../cost/usage.js'
import { totalTokens } from '../cost/usage.js'
import type { Decision, RejectDecision, RunDecision, Usage } from '../decision.js'
import type { Asked } from './asked.js'
import type { Gate } from './gate.js'

/** What the gate says to a check, in the field's usual words. */
export interface Answer {
  readonly allowed: boolean
  /** The limit that refused, as "rule/limit"; null where nothing did. */
  readonly limitExceeded: string | null
  /** What is left at the tightest limit, in its unit; null where no limit covers the call. */
  readonly remaining: number | null
  /** When the tightest limit is as if unused; null where no limit covers the call. */
  readonly resetAt: Date | null
  /** Ms until the same call would pass: 0 if it does now, null where it never can or nobody can know. */
  readonly retryAfterMs: number | null
  readonly usage: readonly Usage[]
}

function tightest(usage: readonly Usage[]): Usage | null {
  const share = (one: Usage) => (one.capacity === 0 ? 0 : one.remaining / one.capacity)
  return usage.reduce<Usage | null>((least, one) => (least === null || share(one) < share(least) ? one : least), null)
}

export function answerOf(decision: Decision): Answer {
  const rejected = decision.outcome === 'reject' ? decision : null
  const tight = tightest(decision.usage)
  return {
    allowed: decision.outcome === 'run',
    limitExceeded: rejected === null ? null : `${rejected.binding.rule}/${rejected.binding.limit}`,
    remaining: tight?.remaining ?? null,
    resetAt: tight === null ? null : new Date(Math.ceil(decision.atMs + tight.resetMs)),
    retryAfterMs: rejected === null ? 0 : rejected.retryAfterMs === null ? null : Math.ceil(rejected.retryAfterMs),
    usage: decision.usage,
  }
}

/** A check that was charged, or refused and not charged. What it tells besides is worked out when it is asked for. */
export class Grant implements Answer {
  readonly allowed: boolean
  readonly decision: RunDecision | RejectDecision
  readonly #gate: Gate
  readonly #asked: Asked
  #answer: Answer | undefined

  constructor(gate: Gate, asked: Asked, decision: RunDecision | RejectDecision) {
    this.allowed = decision.outcome === 'run'
    this.decision = decision
    this.#gate = gate
    this.#asked = asked
  }

  get limitExceeded(): string | null {
    return this.answer.limitExceeded
  }
  get remaining(): number | null {
    return this.answer.remaining
  }
  get resetAt(): Date | null {
    return this.answer.resetAt
  }
  get retryAfterMs(): number | null {
    return this.answer.retryAfterMs
  }
  get usage(): readonly Usage[] {
    return this.answer.usage
  }

  private get answer(): Answer {
    this.#answer ??= answerOf(this.decision)
    return this.#answer
  }

  /** Replaces the estimate by what the call really used; settling again changes nothing. Returns whether it was open. */
  async settle(usage: CallUsage = {}): Promise<boolean> {
    if (!this.allowed) return false
    const [settled] = await this.#gate.settle([{ asked: this.#asked, actual: { tokens: totalTokens(usage) } }])
    return settled === true
  }

  /** Gives back everything, as if the call had never been asked for: it was not made. */
  async release(): Promise<boolean> {
    return this.allowed && (await this.#gate.release(this.#asked)) === 'S'
  }
}
