import type { Call } from '../call.js'
import { DEFAULTS } from '../config/defaults.js'
import type { Upstream } from '../config/upstream-options.js'
import { estimateCosts } from '../cost/costs.js'
import type { Estimate } from '../cost/estimate.js'
import { type Costs, NOTHING } from '../cost/units.js'
import type { Keys } from '../redis/keys.js'
import type { CompiledRule, RuleSet } from '../rules/compile.js'
import type { Asked } from './asked.js'
import { type Demand, DemandResolver } from './demand.js'
import type { UpstreamName } from './upstream.js'

/** What calls ask under the rules in force, which change at run time. */
export class Demands {
  readonly keys: Keys
  readonly upstream: Upstream
  private readonly estimate: Estimate | undefined
  private resolver: DemandResolver

  constructor(ruleSet: RuleSet, keys: Keys, estimate?: Estimate, upstream: Upstream = DEFAULTS.upstream) {
    this.keys = keys
    this.upstream = upstream
    this.estimate = estimate
    this.resolver = new DemandResolver(ruleSet, keys, upstream)
  }

  get rules(): RuleSet {
    return this.resolver.ruleSet
  }
  set rules(ruleSet: RuleSet) {
    const { version, nextEndMs } = this.resolver.ruleSet
    // The same policy at another time: an override has ended.
    if (ruleSet.version !== version || ruleSet.nextEndMs !== nextEndMs) this.resolver = new DemandResolver(ruleSet, this.keys, this.upstream)
  }

  /** What a call is expected to cost; a promise only where that has to be worked out. @throws CallInvalid */
  costs(call: Call): Costs | Promise<Costs> {
    return estimateCosts(call, this.resolver.needed(call), this.rules.prices, this.estimate)
  }

  /** The meters a call meets. */
  demand(call: Call, costs: Costs): Demand {
    return this.resolver.resolve(call, costs)
  }

  /** What asks of nothing but the block of an agent, endpoint and model. */
  blockOf(name: UpstreamName): Asked {
    const demand: Demand = { parts: [this.resolver.blockPart(name)], costs: NOTHING, counted: this.rules.counted }
    return { id: '', token: '', forGood: true, call: {}, demand }
  }

  /** The rules that guard an agent, endpoint and model, whoever calls it. */
  guardsOf(name: UpstreamName): readonly CompiledRule[] {
    return this.resolver.guardsOf(name)
  }
}
