import type { AdmissionRequest } from '../src/admission/request.js'
import { Resolver } from '../src/admission/resolver.js'
import type { Call } from '../src/model/call.js'
import { type Costs, NOTHING } from '../src/model/cost.js'
import { compileRules } from '../src/policy/compile.js'
import type { RuleSpec } from '../src/policy/rule.js'
import { checkRules } from '../src/policy/rules-file.js'
import { Keys } from '../src/redis/keys.js'

/** What `askOf` is told besides the call. */
export interface RequestOptions {
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
export function requestFor(
  rules: readonly RuleSpec[],
  call: Call,
  costs: Partial<Costs>,
  { namespace = 'contract', forGood }: RequestOptions = {},
): AdmissionRequest {
  const resolver = new Resolver(compileRules(checkRules(rules).rules), new Keys(namespace))
  const resolved = resolver.resolve(call, { ...NOTHING, ...costs })
  return { id: call.id === undefined ? '' : `~/${call.id}`, token: '', call, ...resolved, forGood }
}
