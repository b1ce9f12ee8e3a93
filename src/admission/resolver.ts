import type { Call } from '../model/call.js'
import { COST_UNITS, type Costs, type CostUnit, NOTHING } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import type { UpstreamName } from '../model/upstream.js'
import type { RuleSet } from '../policy/compile.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import { blockValue, type Upstream, UpstreamBlocks } from '../policy/upstream-block.js'
import { estimateCosts } from '../pricing/costs.js'
import type { Estimate } from '../pricing/estimate.js'
import type { Keys } from '../redis/keys.js'
import { RuleMeters } from './meter-ref.js'
import { type AdmissionRequest, type MeterRef, meterRequest, type ResolvedMeters } from './request.js'

/** Resolves calls to demands under one version of the rules. */
export class RuleSetResolver {
  readonly ruleSet: RuleSet
  private readonly meters: readonly RuleEntry[]
  private readonly blockRules: UpstreamBlocks
  private readonly blocks: RuleMeters

  constructor(ruleSet: RuleSet, keys: Keys, upstream: Upstream = DEFAULTS.upstream) {
    this.ruleSet = ruleSet
    this.blockRules = new UpstreamBlocks(upstream)
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

  resolve(call: Call, costs: Costs): ResolvedMeters {
    const parts: MeterRef[] = []
    for (const { rule, meters, degraded } of this.meters) {
      const value = rule.scopeValue(call)
      // What runs in degraded mode is charged to the allowances of graceful rules instead.
      if (value !== null) parts.push((call.degraded === true && degraded !== null && degrades(rule, call) ? degraded : meters).part(value, call))
    }
    parts.push(this.blockPart(call))
    return { meters: parts, costs, counted: this.ruleSet.counted }
  }

  /**
   * The meter that every call passes besides those of rules: what its agent has said. Per
   * agent, endpoint and model; it stands last.
   */
  blockPart(call: Call): MeterRef {
    return this.blocks.partFor(blockValue(call), () => this.blockRules.of(this.guardsOf(call)))
  }

  /** The rules that guard the agent, endpoint and model of a call, whoever makes it. */
  guardsOf({ agent, endpoint, model }: Call): CompiledRule[] {
    return this.ruleSet.rules.filter((rule) => rule.guards && rule.scopeValue({ agent, endpoint, model }) !== null)
  }
}

/** A rule, its meters, those of its degraded mode, and the units of cost that either counts. */
interface RuleEntry {
  readonly rule: CompiledRule
  readonly meters: RuleMeters
  readonly degraded: RuleMeters | null
  readonly units: readonly CostUnit[]
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

/** What calls ask under the rules in force, which change at run time. */
export class Resolver {
  readonly keys: Keys
  readonly upstream: Upstream
  private readonly estimate: Estimate | undefined
  private current: RuleSetResolver

  constructor(ruleSet: RuleSet, keys: Keys, estimate?: Estimate, upstream: Upstream = DEFAULTS.upstream) {
    this.keys = keys
    this.upstream = upstream
    this.estimate = estimate
    this.current = new RuleSetResolver(ruleSet, keys, upstream)
  }

  get rules(): RuleSet {
    return this.current.ruleSet
  }
  set rules(ruleSet: RuleSet) {
    const { version, nextEndMs } = this.current.ruleSet
    // The same policy at another time: an override has ended.
    if (ruleSet.version !== version || ruleSet.nextEndMs !== nextEndMs) this.current = new RuleSetResolver(ruleSet, this.keys, this.upstream)
  }

  /** What a call is expected to cost; a promise only where that has to be worked out. @throws CallInvalid */
  costs(call: Call): Costs | Promise<Costs> {
    return estimateCosts(call, this.current.needed(call), this.rules.prices, this.estimate)
  }

  /** The meters a call meets. */
  resolve(call: Call, costs: Costs): ResolvedMeters {
    return this.current.resolve(call, costs)
  }

  /** What asks of nothing but the block of an agent, endpoint and model. */
  blockOf(name: UpstreamName): AdmissionRequest {
    return meterRequest({ meters: [this.current.blockPart(name)], costs: NOTHING, counted: this.rules.counted })
  }

  /** The rules that guard an agent, endpoint and model, whoever calls it. */
  guardsOf(name: UpstreamName): readonly CompiledRule[] {
    return this.current.guardsOf(name)
  }
}
