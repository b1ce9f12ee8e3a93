import type { Call } from '../call.js'
import { type Costs, NOTHING } from '../cost/units.js'
import type { Asked } from '../gate/asked.js'
import { Demands } from '../gate/demands.js'
import { Keys } from '../redis/keys.js'
import { compileRules } from '../rules/compile.js'
import { checkRules } from '../rules/read.js'
import type { RuleSpec } from '../rules/rule.js'

/** What `askOf` is told besides the call. */
export interface Asking {
  /** Whose keys the meters get, where a store keeps them by these. */
  readonly namespace?: string
  /** Charged for good: it cannot be settled or given back. */
  readonly forGood?: boolean
}

/**
 * What a store is asked: a call under these rules, at these costs (none in the units that are
 * not named). A call with an `id` is known by it, one without is given a name by the store.
 * @throws RulesInvalid
 */
export function askOf(rules: readonly RuleSpec[], call: Call, costs: Partial<Costs>, { namespace = 'contract', forGood }: Asking = {}): Asked {
  const demands = new Demands(compileRules(checkRules(rules).rules), new Keys(namespace))
  const demand = demands.demand(call, { ...NOTHING, ...costs })
  return { id: call.id === undefined ? '' : `~/${call.id}`, token: '', call, demand, forGood }
}
