import { tokenOf } from '../src/admission/identity.js'
import type { AdmissionRequest } from '../src/admission/request.js'
import { Resolver } from '../src/admission/resolver.js'
import type { Call } from '../src/model/call.js'
import { type Costs, NOTHING } from '../src/model/cost.js'
import { compileRules } from '../src/policy/compile.js'
import type { RuleSpec } from '../src/policy/rule.js'
import { checkRules } from '../src/policy/rules-file.js'
import { Keys } from '../src/redis/keys.js'
import { TEST_ALGORITHMS } from './session-window.js'

export interface RequestOptions {
  /** In the keys of the meters. */
  readonly namespace?: string
  /** The charge stays: the call cannot be settled or released. */
  readonly forGood?: boolean
}

/**
 * The request of a call under these rules, at these costs (0 in units that are not named). The
 * ledger entry of a call with an `id` has that id; the store names the entry of one without.
 * @throws RulesInvalid
 */
export function requestFor(
  rules: readonly RuleSpec[],
  call: Call,
  costs: Partial<Costs>,
  { namespace = 'contract', forGood }: RequestOptions = {},
): AdmissionRequest {
  const resolver = new Resolver(compileRules(checkRules(rules).rules, TEST_ALGORITHMS), new Keys(namespace))
  const resolved = resolver.resolve(call, { ...NOTHING, ...costs })
  const named = call.id === undefined ? { id: '', token: '' } : { id: `~/${call.id}`, token: tokenOf(call) }
  return { ...named, call, ...resolved, forGood }
}
