import type { Call } from '../call.js'
import { estimateCosts } from '../cost/costs.js'
import type { Estimate } from '../cost/estimate.js'
import type { Costs } from '../cost/units.js'
import type { Keys } from '../redis/keys.js'
import type { RuleSet } from '../rules/compile.js'
import { type Demand, DemandResolver } from './demand.js'

/** What calls ask under the rules in force, which change at run time. */
export class Demands {
  readonly keys: Keys
  private readonly estimate: Estimate | undefined
  private resolver: DemandResolver

  constructor(ruleSet: RuleSet, keys: Keys, estimate?: Estimate) {
    this.keys = keys
    this.estimate = estimate
    this.resolver = new DemandResolver(ruleSet, keys)
  }

  get rules(): RuleSet {
    return this.resolver.ruleSet
  }
  set rules(ruleSet: RuleSet) {
    const { version, nextEndMs } = this.resolver.ruleSet
    // The same policy at another time: an override has ended.
    if (ruleSet.version !== version || ruleSet.nextEndMs !== nextEndMs) this.resolver = new DemandResolver(ruleSet, this.keys)
  }

  /** What a call is expected to cost; a promise only where that has to be worked out. @throws CallInvalid */
  costs(call: Call): Costs | Promise<Costs> {
    return estimateCosts(call, this.resolver.needed(call), this.rules.prices, this.estimate)
  }

  /** The meters a call meets. */
  demand(call: Call, costs: Costs): Demand {
    return this.resolver.resolve(call, costs)
  }
}
