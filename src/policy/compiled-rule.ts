import type { CompiledLimit } from '../limits/compiled-limit.js'
import type { Call, Strategy } from '../model/call.js'
import type { CostUnit } from '../model/cost.js'
import type { RuleKind } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import type { FieldMatch } from './match.js'
import type { OnStoreError } from './rule.js'

/** The bounds of a rule besides its limits; 0 = no bound, except for `holdMs`. */
export interface RuleOptions {
  /** The longest wait of a call in the rule's lines. */
  readonly maxWaitMs: number
  /** The most calls that wait in a line of the rule. */
  readonly maxWaiting: number
  /** The longest delay by throttle that a call spends in its worker. */
  readonly holdMs: number
  /** The longest delay by throttle. */
  readonly maxDelayMs: number
}

/** The bounds of a rule that sets none. */
export const NO_OPTIONS: RuleOptions = Object.freeze({ maxWaitMs: 0, maxWaiting: 0, holdMs: DEFAULTS.throttleHoldMs, maxDelayMs: 0 })

/** A copy of a limit of a rule that guards an agent, kept in the agent's block: a bucket that counts while the agent recovers. */
export interface MirroredLimit {
  readonly name: string
  readonly id: number
  readonly unit: CostUnit
  /** The burst, in `unit`. */
  readonly capacity: number
  /** The refill, in units per ms. */
  readonly rate: number
}

/** How an agent recovers from a refusal; `lua/lib/upstream.lua` applies it. */
export interface Recovery {
  /** The id of the block within its packed meter. */
  readonly id: number
  /** How long the outcome of a probe is awaited before another call probes; 0 = recover without a probe. */
  readonly probeLeaseMs: number
  /** The time between two steps of recovery. */
  readonly everyMs: number
  /** The factor of each step. */
  readonly stepFactor: number
  readonly mirrored: readonly MirroredLimit[]
}

/** A compiled rule: constants and pure functions. */
export interface CompiledRule {
  readonly kind: RuleKind
  readonly name: string
  readonly priority: number
  readonly strategy: Strategy
  readonly limits: readonly CompiledLimit[]
  /** The limits with a Redis key of their own: leases of a concurrency, sliding logs. */
  readonly keyed: readonly CompiledLimit[]
  /**
   * How many of the limits are in force, counted from the first: all, unless an override replaces
   * some. A call needs no room in the others and is not charged there; their usage is kept.
   */
  readonly active: number
  /** The id of the override that it is under. */
  readonly override?: string | undefined
  /** The rule that calls in degraded mode are charged to instead; null where the rule has no degraded mode. */
  readonly degraded: CompiledRule | null
  /** The rule under overrides; undefined where no override can apply to it. */
  readonly variants?: Variants | undefined
  readonly options: RuleOptions
  /** Only for upstream blocks: how the agent recovers from a refusal. */
  readonly recovery?: Recovery | undefined
  /** What happens to its calls while Redis is away; undefined: as the option `onStoreError` says. */
  readonly onStoreError?: OnStoreError | undefined
  /** Whether its limits are those of the agent itself: it counts and matches by agent, endpoint and model alone. */
  readonly guards: boolean
  /** The field that the rule requires and a call lacks; undefined where the rule requires none. */
  readonly missing?: ((call: Call) => string | undefined) | undefined
  /** The conditions of its match, by which `RuleIndex` leaves out rules that cannot cover a call; undefined where only `scopeValue` knows. */
  readonly conditions?: readonly FieldMatch[] | undefined
  /** The value that the rule counts a call by; null where it does not cover the call. */
  scopeValue(call: Call): string | null
}

/** What rules have in common that have no limits, lines in order of arrival, and neither bounds nor degraded mode. */
export const BARE_RULE = {
  strategy: 'queue',
  limits: [],
  keyed: [],
  active: 0,
  degraded: null,
  options: NO_OPTIONS,
  guards: false,
} as const satisfies Partial<CompiledRule>

/** A rule under overrides: the same name and meters with other limits. */
export interface Variants {
  /** The rule for a call that it covers, undefined where no override applies; the same for all calls of one meter. */
  of(call: Call): CompiledRule | undefined
  /** The limits that any of the overrides brings. */
  readonly limits: readonly CompiledLimit[]
}
