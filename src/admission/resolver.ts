import { countedUnits } from '../limits/compiled-limit.js'
import type { Call } from '../model/call.js'
import { type Costs, type CostUnit, NOTHING } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import { TollgateError } from '../model/errors.js'
import type { UpstreamName } from '../model/upstream.js'
import type { RuleSet } from '../policy/compile.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import { blockValue } from '../policy/match.js'
import { RuleIndex } from '../policy/rule-index.js'
import { type Upstream, UpstreamBlocks } from '../policy/upstream-block.js'
import { type Estimate, estimateCosts } from '../pricing/estimate.js'
import type { Keys } from '../redis/keys.js'
import { OverrideUses } from './override-uses.js'
import { type AdmissionRequest, type CallRequest, type MeterRef, meterRequest, type ResolvedMeters, RuleMeters } from './request.js'

/** Finds the meters of a call, under one version of the rules. */
class RuleSetResolver {
  private readonly entries: readonly RuleEntry[]
  private readonly index: RuleIndex<RuleEntry>
  private readonly requiring: RuleIndex<RuleEntry>
  private readonly guards: RuleIndex<RuleEntry>
  private readonly blockRules: UpstreamBlocks
  private readonly blocks: RuleMeters

  constructor(
    readonly ruleSet: RuleSet,
    keys: Keys,
    upstream: Upstream,
  ) {
    this.blockRules = new UpstreamBlocks(upstream)
    this.entries = ruleSet.rules.map((rule) => ({
      rule,
      meters: new RuleMeters(rule, keys),
      degraded: rule.degraded === null ? null : new RuleMeters(rule.degraded, keys),
      units: countedUnits([...rule.limits, ...(rule.degraded?.limits ?? []), ...(rule.variants?.limits ?? [])]),
    }))
    this.index = new RuleIndex(this.entries)
    this.requiring = new RuleIndex(this.entries.filter(({ rule }) => rule.missing !== undefined))
    this.guards = new RuleIndex(this.entries.filter(({ rule }) => rule.guards))
    this.blocks = new RuleMeters(this.blockRules.of([]), keys)
  }

  /** @throws CALL_INCOMPLETE where the call lacks a field that a rule requires: no meter would count it */
  checkRequired(call: Call): void {
    for (const { rule } of this.requiring.candidates(call)) {
      const field = rule.missing?.(call)
      if (field !== undefined) throw new TollgateError('CALL_INCOMPLETE', `${field}: is required by rule ${rule.name} (got undefined)`)
    }
  }

  /** The units of cost that the rules of a call count: they have to be given or estimated. */
  needed(call: Call): ReadonlySet<CostUnit> {
    const needed = new Set<CostUnit>()
    for (const { rule, units } of this.index.candidates(call)) {
      if (units.some((unit) => !needed.has(unit)) && rule.scopeValue(call) !== null) for (const unit of units) needed.add(unit)
    }
    return needed
  }

  resolve(call: Call, costs: Costs): ResolvedMeters {
    const met: MeterRef[] = []
    for (const { rule, meters, degraded } of this.index.candidates(call)) {
      const value = rule.scopeValue(call)
      // In degraded mode a call is charged to the `degraded` limits of graceful rules instead of their limits.
      if (value !== null) met.push((call.degraded === true && degraded !== null && degrades(rule, call) ? degraded : meters).meter(value, call))
    }
    met.push(this.blockMeter(call))
    return { meters: met, costs, counted: this.ruleSet.counted }
  }

  /** The meters of a rule for one scope value: that of its limits, and that of its degraded mode; none where there is no such rule. */
  metersOf(rule: string, value: string): MeterRef[] {
    const entry = this.entries.find(({ rule: { name } }) => name === rule)
    return entry === undefined ? [] : [entry.meters.apart(value), ...(entry.degraded === null ? [] : [entry.degraded.apart(value)])]
  }

  /** The meter of the block of a call's agent, endpoint and model. Every call has it, as the last of its meters. */
  blockMeter(call: Call): MeterRef {
    return this.blocks.meterFor(blockValue(call), () => this.blockRules.of(this.guardsOf(call)))
  }

  /** The rules that guard the agent, endpoint and model of a call; its user, team and the like do not matter. */
  guardsOf({ agent, endpoint, model }: Call): CompiledRule[] {
    const named = { agent, endpoint, model }
    return this.guards
      .candidates(named)
      .map(({ rule }) => rule)
      .filter((rule) => rule.scopeValue(named) !== null)
  }
}

/** A rule with its meters, the meters of its degraded mode, and the units of cost that either of them counts. */
interface RuleEntry {
  readonly rule: CompiledRule
  readonly meters: RuleMeters
  readonly degraded: RuleMeters | null
  readonly units: readonly CostUnit[]
}

/** Whether this rule can have put the call into degraded mode. */
function degrades(rule: CompiledRule, call: Call): boolean {
  const strategy = call.strategy ?? rule.strategy
  return strategy === 'graceful' || strategy.startsWith('custom:')
}

/** Finds the costs and meters of calls under the rules in force, which change at run time. */
export class Resolver {
  private current: RuleSetResolver
  readonly uses = new OverrideUses()
  /** Is called once, when a call is resolved while there are no rules. */
  onFirstWithoutRules: (() => void) | undefined
  /** The endpoint of calls that name none, by agent, as far as a handler of this process knows it and the policy does not. */
  private readonly endpoints = new Map<string, string>()

  constructor(
    ruleSet: RuleSet,
    readonly keys: Keys,
    private readonly estimate?: Estimate,
    readonly upstream: Upstream = DEFAULTS.upstream,
  ) {
    this.current = new RuleSetResolver(ruleSet, keys, upstream)
  }

  get rules(): RuleSet {
    return this.current.ruleSet
  }
  set rules(ruleSet: RuleSet) {
    const { version, nextEndMs } = this.current.ruleSet
    // The version stays the same where an override has ended; the time of the next end differs then.
    if (ruleSet.version !== version || ruleSet.nextEndMs !== nextEndMs) this.current = new RuleSetResolver(ruleSet, this.keys, this.upstream)
  }

  /** Whether the app estimates costs by a function of its own. */
  get ownEstimate(): boolean {
    return this.estimate !== undefined
  }

  /** A handler of this process sends calls that name no endpoint to these, by agent. */
  knowEndpoints(endpoints: Readonly<Record<string, string>>): void {
    for (const [agent, endpoint] of Object.entries(endpoints)) this.endpoints.set(agent, endpoint)
  }

  /** The call with the endpoint that it is sent to where it names none: without it the call would pass by the rules that match or count endpoints. */
  withEndpoint<Named extends UpstreamName>(call: Named): Named {
    if (call.endpoint !== undefined) return call
    const { endpoints } = this.rules.policy
    const endpoint = Object.hasOwn(endpoints, call.agent) ? endpoints[call.agent] : this.endpoints.get(call.agent)
    return endpoint === undefined ? call : { ...call, endpoint }
  }

  /** The expected cost of a call; a promise only where something has to be estimated. @throws CallInvalid, CALL_INCOMPLETE */
  costs(call: Call): Costs | Promise<Costs> {
    this.current.checkRequired(call)
    return estimateCosts(call, this.current.needed(call), this.rules.prices, this.estimate)
  }

  resolve(call: Call, costs: Costs): ResolvedMeters {
    if (this.onFirstWithoutRules !== undefined && this.rules.specs.length === 0) {
      this.onFirstWithoutRules()
      this.onFirstWithoutRules = undefined
    }
    return this.current.resolve(call, costs)
  }

  /** A call has started: counts the overrides that it started under. */
  started(request: Pick<CallRequest, 'call' | 'meters'>): void {
    this.uses.count(request, this.rules)
  }

  /** A request about the meters of a rule for one scope value, which costs nothing; undefined where there is no such rule. */
  metersOf(rule: string, value: string): AdmissionRequest | undefined {
    const meters = this.current.metersOf(rule, value)
    return meters.length === 0 ? undefined : meterRequest({ meters, costs: NOTHING, counted: this.rules.counted })
  }

  /** A request about the block of an agent, endpoint and model alone. */
  blockOf(name: UpstreamName): AdmissionRequest {
    return meterRequest({ meters: [this.current.blockMeter(name)], costs: NOTHING, counted: this.rules.counted })
  }

  /** The rules that guard an agent, endpoint and model; see `CompiledRule.guards`. */
  guardsOf(name: UpstreamName): readonly CompiledRule[] {
    return this.current.guardsOf(name)
  }
}
