import { z } from 'zod'
import { type CompiledLimit, limitId } from '../limits/compiled-limit.js'
import { DEFAULTS } from '../model/defaults.js'
import { HOUR } from '../model/time.js'
import { BLOCK_NAME } from '../model/upstream.js'
import { BARE_RULE, type CompiledRule, type MirroredLimit } from './compiled-rule.js'
import { blockValue } from './match.js'

/** How Tollgate learns from the refusals of an agent (`Tollgate.open({ upstream })`). */
export interface UpstreamOptions {
  /** The factor that a refusal multiplies the capacity by, from 0.01 to 0.99; default 0.5. */
  reduceFactor?: number | undefined
  /** The factor of each step of recovery, from 1.01 to 10; default 1.1. */
  recoverFactor?: number | undefined
  /** The time between two steps of recovery, in ms from 10 to 86400000; default 30 s. */
  recoverEveryMs?: number | undefined
  /** Whether one call, the probe, goes ahead of all others when a block ends; default true. */
  canary?: boolean | undefined
  /** How long the outcome of the probe is awaited before another call probes, in ms from 1000 to 3600000; default 60 s. */
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

const BLOCK_PRIORITY = -2_000_000
/** Limits with longer windows are budgets rather than rates: a refusal tells nothing about them, so they are not mirrored. */
const LONGEST_MIRRORED_MS = HOUR

/** The copy of a guarding rule's limit for the block; none where a refusal tells nothing about its unit or window. */
function mirrored(rule: string, { name, unit, algorithm, limit, capacity, windowMs }: CompiledLimit): MirroredLimit[] {
  if (unit === 'concurrency' || windowMs > LONGEST_MIRRORED_MS || limit === 0) return []
  const own = `${rule}/${name}`
  // A leaky bucket has no burst.
  return [{ name: own, id: limitId(own), unit, capacity: algorithm === 'leaky_bucket' ? 0 : capacity, rate: limit / windowMs }]
}

/** Makes the rules of upstream blocks; agents that are guarded by the same rules share one. */
export class UpstreamBlocks {
  private readonly made = new Map<string, CompiledRule>()

  constructor(private readonly upstream: Upstream) {}

  /** The rule of the block of an agent. @param guards the rules that guard it, see `CompiledRule.guards` */
  of(guards: readonly CompiledRule[]): CompiledRule {
    const key = guards.map(({ name }) => name).join(' ')
    let rule = this.made.get(key)
    if (rule === undefined) {
      rule = this.block(guards)
      this.made.set(key, rule)
    }
    return rule
  }

  private block(guards: readonly CompiledRule[]): CompiledRule {
    const { canary, canaryLeaseMs, recoverEveryMs, recoverFactor } = this.upstream
    return {
      ...BARE_RULE,
      kind: 'upstream',
      name: BLOCK_NAME,
      priority: BLOCK_PRIORITY,
      recovery: {
        id: limitId('upstream'),
        probeLeaseMs: canary ? canaryLeaseMs : 0,
        everyMs: recoverEveryMs,
        stepFactor: recoverFactor,
        mirrored: guards.flatMap(({ name, limits }) => limits.flatMap((limit) => mirrored(name, limit))),
      },
      scopeValue: blockValue,
    }
  }
}
