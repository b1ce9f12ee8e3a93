import type { Call } from '../call.js'
import { DEFAULTS } from '../config/defaults.js'
import type { Upstream } from '../config/upstream-options.js'
import { COST_UNITS, type Costs, type CostUnit } from '../cost/units.js'
import type { Binding } from '../decision.js'
import type { Keys } from '../redis/keys.js'
import { ALLOWANCE, type CompiledRule, type RuleSet } from '../rules/compile.js'
import type { CompiledLimit } from '../rules/compile-limit.js'
import { BLOCK_NAME, BlockRules, blockValue } from './block.js'

/** One rule's meters as one call meets them. */
export interface DemandPart {
  readonly rule: CompiledRule
  readonly value: string
  /** Its state and, for each limit that has one, a key of its own. */
  readonly keys: readonly string[]
  /** Its line. */
  readonly line: string
}

/** A limit at its meter, as what a call waits for or was refused by. */
export function bindingOf({ rule, value }: Pick<DemandPart, 'rule' | 'value'>, limit: CompiledLimit): Binding {
  return { rule: rule.name, limit: limit.name, scopeValue: value, unit: limit.unit }
}

/** What one call asks of all its meters at once. */
export interface Demand {
  readonly parts: readonly DemandPart[]
  readonly costs: Costs
  /** The codes of the units that are counted, by these meters and others of their rules: what a ledger keeps. */
  readonly counted: readonly number[]
}

/** The meters of a rule for one scope value; their keys are built where they are needed. */
class Part implements DemandPart {
  readonly rule: CompiledRule
  readonly value: string
  readonly #names: Keys
  #keys: readonly string[] | undefined
  #line: string | undefined

  constructor(rule: CompiledRule, value: string, names: Keys) {
    this.rule = rule
    this.value = value
    this.#names = names
  }

  get keys(): readonly string[] {
    this.#keys ??= this.build()
    return this.#keys
  }

  get line(): string {
    this.#line ??= this.#names.line(this.rule.name, this.value)
    return this.#line
  }

  private build(): string[] {
    const { name, keyed } = this.rule
    const keys = [this.#names.meter(name, this.value)]
    for (const limit of keyed) {
      keys.push(limit.unit === 'concurrency' ? this.#names.leases(name, this.value) : this.#names.log(name, limit.id, this.value))
    }
    return keys
  }
}

/** How many scope values' meters are remembered per rule at least, so that busy ones are not made anew for each call; at most twice as many. */
const REMEMBERED = 10_000

/** The meters of one rule, by scope value. */
export class RuleMeters {
  private readonly rule: CompiledRule
  private readonly names: Keys
  private recent = new Map<string, DemandPart>()
  /** Those before them: whoever is not met again goes. */
  private older = new Map<string, DemandPart>()

  constructor(rule: CompiledRule, names: Keys) {
    this.rule = rule
    this.names = names
  }

  /** @param call one that meets these meters: an override may be for it. All that meet them are overridden alike */
  part(value: string, call?: Call): DemandPart {
    return this.partFor(value, () => (call && this.rule.variants?.of(call)) ?? this.rule)
  }

  /** @param ruleOf its rule, where they differ from value to value */
  partFor(value: string, ruleOf: () => CompiledRule): DemandPart {
    const known = this.recent.get(value)
    if (known !== undefined) return known
    const part = this.older.get(value) ?? new Part(ruleOf(), value, this.names)
    if (this.recent.size >= REMEMBERED) {
      this.older = this.recent
      this.recent = new Map()
    }
    this.recent.set(value, part)
    return part
  }
}

/** Resolves calls to demands under one version of the rules. */
export class DemandResolver {
  readonly ruleSet: RuleSet
  private readonly meters: readonly RuleOfCalls[]
  private readonly blockRules: BlockRules
  private readonly blocks: RuleMeters

  constructor(ruleSet: RuleSet, keys: Keys, upstream: Upstream = DEFAULTS.upstream) {
    this.ruleSet = ruleSet
    this.blockRules = new BlockRules(upstream)
    this.meters = ruleSet.rules.map((rule) => ({
      rule,
      meters: new RuleMeters(rule, keys),
      degraded: rule.degraded === null ? null : new RuleMeters(rule.degraded, keys),
      units: costUnits(rule),
    }))
    this.blocks = new RuleMeters(this.blockRules.of([]), keys)
  }

  /** The units of cost that any rule which covers the call counts, so that they must be known. */
  needed(call: Call): ReadonlySet<CostUnit> {
    const needed = new Set<CostUnit>()
    for (const { rule, units } of this.meters) {
      if (units.some((unit) => !needed.has(unit)) && rule.scopeValue(call) !== null) for (const unit of units) needed.add(unit)
    }
    return needed
  }

  resolve(call: Call, costs: Costs): Demand {
    const parts: DemandPart[] = []
    for (const { rule, meters, degraded } of this.meters) {
      const value = rule.scopeValue(call)
      // What runs in degraded mode is charged to the allowances of graceful rules instead.
      if (value !== null) parts.push((call.degraded === true && degraded !== null && degrades(rule, call) ? degraded : meters).part(value, call))
    }
    parts.push(this.blockPart(call))
    return { parts, costs, counted: this.ruleSet.counted }
  }

  /**
   * The meter that every call passes besides those of rules: what its agent has said. Per
   * agent, endpoint and model; it stands last.
   */
  blockPart(call: Call): DemandPart {
    return this.blocks.partFor(blockValue(call), () => this.blockRules.of(this.guardsOf(call)))
  }

  /** The rules that guard the agent, endpoint and model of a call, whoever makes it. */
  guardsOf({ agent, endpoint, model }: Call): CompiledRule[] {
    return this.ruleSet.rules.filter((rule) => rule.guards && rule.scopeValue({ agent, endpoint, model }) !== null)
  }
}

/** A rule, its meters, those of its degraded mode, and the units of cost that either counts. */
interface RuleOfCalls {
  readonly rule: CompiledRule
  readonly meters: RuleMeters
  readonly degraded: RuleMeters | null
  readonly units: readonly CostUnit[]
}

/** Whether a rule of this name is an allowance of a degraded mode. */
export function isAllowance(rule: string): boolean {
  return rule.endsWith(ALLOWANCE)
}

/** Whether it may be that this rule let the call run in degraded mode. */
function degrades(rule: CompiledRule, call: Call): boolean {
  const strategy = call.strategy ?? rule.strategy
  return strategy === 'graceful' || strategy.startsWith('custom:')
}

function costUnits({ limits, degraded, variants }: CompiledRule): CostUnit[] {
  const all = [...limits, ...(degraded?.limits ?? []), ...(variants?.limits ?? [])]
  return COST_UNITS.filter((unit) => all.some((limit) => limit.unit === unit))
}

/** What a call asks of a limit in its unit. */
export function costIn(costs: Costs, unit: CompiledLimit['unit']): number {
  return unit === 'concurrency' ? 1 : unit === 'none' ? 0 : costs[unit]
}

/** The place of the block's meter in a demand, from 1; 0 = it has none. */
export function blockPlace({ parts }: Demand): number {
  return parts.findLastIndex(({ rule }) => rule.name === BLOCK_NAME) + 1
}
