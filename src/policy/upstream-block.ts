import { z } from 'zod'
import { NO_NUMBERS, type RecoveryNumbers } from '../limits/algorithm.js'
import { ALGORITHMS } from '../limits/algorithms.js'
import { type CompiledLimit, limitId } from '../limits/compiled-limit.js'
import type { Call } from '../model/call.js'
import { DEFAULTS } from '../model/defaults.js'
import { HOUR } from '../model/time.js'
import { type CompiledRule, NO_OPTIONS } from './compiled-rule.js'
import { scopeValueOf } from './match.js'

/** How what an agent allows is learned from its refusals; of `Tollgate.open({ upstream })`. */
export interface UpstreamOptions {
  /** By what a refusal multiplies the capacity; default 0.5. */
  reduceFactor?: number | undefined
  /** By what each step of recovery multiplies it; default 1.1. */
  recoverFactor?: number | undefined
  /** How far the steps of recovery are apart; default 30 s. */
  recoverEveryMs?: number | undefined
  /** Whether one call goes ahead of all others when a block ends; default true. */
  canary?: boolean | undefined
  /** How long that one is waited for before another goes; default 60 s. */
  canaryLeaseMs?: number | undefined
}

export type Upstream = Readonly<Required<{ [Key in keyof UpstreamOptions]: NonNullable<UpstreamOptions[Key]> }>>

export const upstreamSchema = z
  .strictObject({
    reduceFactor: z.number().min(0.01).max(0.99).default(DEFAULTS.upstream.reduceFactor),
    recoverFactor: z.number().min(1.01).max(10).default(DEFAULTS.upstream.recoverFactor),
    recoverEveryMs: z.number().int().min(10).max(86_400_000).default(DEFAULTS.upstream.recoverEveryMs),
    canary: z.boolean().default(DEFAULTS.upstream.canary),
    canaryLeaseMs: z.number().int().min(1000).max(3_600_000).default(DEFAULTS.upstream.canaryLeaseMs),
  })
  .optional()

/** The rule of blocks: no rule of a user's can have its name. */
export const BLOCK_NAME = '~block'
const BLOCK_PRIORITY = -2_000_000
/** Longer windows are budgets rather than rates. */
const LONGEST_MIRRORED_MS = HOUR

const countedBy = scopeValueOf(['agent', 'endpoint', 'model'])

/** What a block counts by: agent, endpoint and model, since one model's 429 says nothing about another's. */
export function blockValue({ agent, endpoint = '', model = '' }: Call): string {
  return countedBy({ agent, endpoint, model }) ?? ''
}

function recoveryOf({ canary, canaryLeaseMs, recoverEveryMs, recoverFactor }: Upstream): RecoveryNumbers {
  return { probeLeaseMs: canary ? canaryLeaseMs : 0, everyMs: recoverEveryMs, factor: recoverFactor }
}

function blockLimit(recovery: RecoveryNumbers): CompiledLimit {
  const id = limitId('upstream', 'block', 0)
  return { ...NO_NUMBERS, name: 'retry-after', id, unit: 'none', algorithm: 'block', limit: 0, slack: 0, recovery }
}

/** What a limit of a rule becomes beside the block; null where its unit or window is nothing that a refusal says anything about. */
function mirrored(rule: string, limit: CompiledLimit, recovery: RecoveryNumbers): CompiledLimit | null {
  const { unit, windowMs } = limit
  if (unit === 'none' || unit === 'concurrency' || windowMs > LONGEST_MIRRORED_MS || limit.limit === 0) return null
  const name = `${rule}/${limit.name}`
  // A leaky bucket lets nothing through at once.
  const capacity = limit.algorithm === 'leaky_bucket' ? 0 : limit.capacity
  const numbers = { ...NO_NUMBERS, capacity, rate: limit.limit / windowMs, windowMs }
  return {
    ...numbers,
    name,
    id: limitId(name, 'learned', windowMs),
    unit,
    algorithm: 'learned',
    limit: limit.limit,
    slack: ALGORITHMS.learned.slack(numbers),
    recovery,
  }
}

/** Makes the rules of blocks: the same one for all that are guarded by the same rules. */
export class BlockRules {
  private readonly recovery: RecoveryNumbers
  private readonly block: CompiledLimit
  private readonly made = new Map<string, CompiledRule>()

  constructor(upstream: Upstream) {
    this.recovery = recoveryOf(upstream)
    this.block = blockLimit(this.recovery)
  }

  /** The block of what these rules guard: those that cover a call, count by agent, endpoint or model alone, and ask for nothing else. */
  of(guards: readonly CompiledRule[]): CompiledRule {
    const key = guards.map(({ name }) => name).join(' ')
    let rule = this.made.get(key)
    if (rule === undefined) {
      const more = guards.flatMap(({ name, limits }) => limits.flatMap((limit) => mirrored(name, limit, this.recovery) ?? []))
      const limits = [this.block, ...more]
      rule = {
        kind: 'upstream',
        name: BLOCK_NAME,
        priority: BLOCK_PRIORITY,
        strategy: 'queue',
        guards: false,
        limits,
        keyed: [],
        active: limits.length,
        degraded: null,
        options: NO_OPTIONS,
        scopeValue: blockValue,
      }
      this.made.set(key, rule)
    }
    return rule
  }
}
