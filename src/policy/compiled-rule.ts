import type { CompiledLimit } from '../limits/compiled-limit.js'
import type { Call, Strategy } from '../model/call.js'
import type { CostUnit } from '../model/cost.js'
import type { RuleKind } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import type { OnStoreError } from './rule.js'

/** What a rule bounds besides its limits; 0 = without a bound, but for the hold. */
export interface RuleOptions {
  readonly maxWaitMs: number
  readonly maxWaiting: number
  readonly holdMs: number
  readonly maxDelayMs: number
}

/** The bounds of a rule that names none. */
export const NO_OPTIONS: RuleOptions = Object.freeze({ maxWaitMs: 0, maxWaiting: 0, holdMs: DEFAULTS.throttleHoldMs, maxDelayMs: 0 })

/** A limit of a rule that guards an agent, mirrored beside the agent's block: it counts while the agent recovers. */
export interface MirroredLimit {
  readonly name: string
  readonly id: number
  readonly unit: CostUnit
  /** The burst. */
  readonly capacity: number
  /** Units per ms. */
  readonly rate: number
}

/** How an agent recovers from a refusal: see `lua/lib/upstream.lua`. */
export interface Recovery {
  /** The id under which the block is kept in its meter. */
  readonly id: number
  /** How long a probe is waited for before another one goes; 0 = none is sent. */
  readonly probeLeaseMs: number
  /** How far the steps of recovery are apart, and by what each multiplies the factor. */
  readonly everyMs: number
  readonly stepFactor: number
  readonly mirrored: readonly MirroredLimit[]
}

/** A rule ready to be applied: pure functions and constants. */
export interface CompiledRule {
  readonly kind: RuleKind
  readonly name: string
  readonly priority: number
  readonly strategy: Strategy
  readonly limits: readonly CompiledLimit[]
  /** Limits that have a key of their own: leases of a concurrency, sliding logs. */
  readonly keyed: readonly CompiledLimit[]
  /**
   * How many of the limits hold, the first ones; all but for overrides. A call needs no room in
   * the others and is not charged there, but what is used there, and claimed, is kept.
   */
  readonly active: number
  /** What calls that it refuses may use in degraded mode instead; null where they may not. */
  readonly degraded: CompiledRule | null
  /** What overrides make of it; undefined where none can concern it. */
  readonly variants?: Variants | undefined
  readonly options: RuleOptions
  /** Of an upstream block: how its agent recovers from a refusal. */
  readonly recovery?: Recovery | undefined
  /** What is answered while Redis is away; undefined: what the process was told. */
  readonly onStoreError?: OnStoreError | undefined
  /** Whether it guards an agent: it counts by agent, endpoint and model, and looks at nothing else. */
  readonly guards: boolean
  /** What the rule counts this call by, or null if it does not cover the call. */
  scopeValue(call: Call): string | null
}

/** A rule under overrides: the same name and meters, other limits. */
export interface Variants {
  /** The rule as it is for a call that it covers; the same for all calls that meet the same meter. */
  of(call: Call): CompiledRule | undefined
  /** Limits that any of them brings. */
  readonly limits: readonly CompiledLimit[]
}
