import type { CallRequest } from '../../src/admission/request.js'
import { Resolver } from '../../src/admission/resolver.js'
import type { Call, Decision } from '../../src/index.js'
import { COST_UNITS, type Costs, NOTHING } from '../../src/model/cost.js'
import { GivenClock, redisClock } from '../../src/model/time.js'
import { compileRules } from '../../src/policy/compile.js'
import type { RuleSpec } from '../../src/policy/rule.js'
import { checkRules } from '../../src/policy/rules-file.js'
import { callRequest } from '../../src/queue/stored-call.js'
import { ScriptClient } from '../../src/store/redis/script-client.js'
import { TEST_ALGORITHMS } from '../../testing/session-window.js'
import type { Namespace } from './namespace.js'

/** A Thursday; far from any border of minutes, so that tests place borders themselves. */
export const T0 = 1_800_000_000_000

/** A resolver of these rules, whose keys are those of the namespace. */
export function resolverOf(namespace: Namespace, rules: readonly RuleSpec[]): Resolver {
  return new Resolver(compileRules(checkRules(rules).rules, TEST_ALGORITHMS), namespace.keys)
}

/** The costs that a call declares; a request and a point where it declares none. */
export function declaredCosts({ cost = {} }: Call): Costs {
  const declared = Object.fromEntries(COST_UNITS.flatMap((unit) => (cost[unit] === undefined ? [] : [[unit, cost[unit]]])))
  return { ...NOTHING, requests: 1, points: 1, ...declared }
}

/** A ScriptClient on real Redis whose time stands still until the test moves it. */
export function givenScriptClient(namespace: Namespace, rules: readonly RuleSpec[], startMs = T0): { scriptClient: ScriptClient; clock: GivenClock } {
  const clock = new GivenClock(startMs)
  return { scriptClient: new ScriptClient(namespace.redis, resolverOf(namespace, rules), clock), clock }
}

/** A ScriptClient on Redis' own clock. */
export function realScriptClient(namespace: Namespace, rules: readonly RuleSpec[]): ScriptClient {
  return new ScriptClient(namespace.redis, resolverOf(namespace, rules), redisClock)
}

/** The request of a call with the costs that it declares; each start of it has a ledger entry of its own. */
export function requestOf(scriptClient: ScriptClient, id: string, call: Call, start = id): CallRequest {
  return { ...callRequest(scriptClient, `calls/${id}`, '0', call, declaredCosts(call)), ledger: `~~/${start}` }
}

/** Decides by one of the scripts that admit calls, run as production code runs it. */
export async function decideBy(scriptClient: ScriptClient, script: 'check' | 'enqueue' | 'start', requests: readonly CallRequest[]): Promise<Decision[]> {
  switch (script) {
    case 'start':
      return (await scriptClient.start(requests, [], true)) as Decision[]
    case 'enqueue':
      return (await scriptClient.enqueue(requests, 'calls')) as Decision[]
    case 'check':
      return scriptClient.check(requests)
    default:
      return script satisfies never
  }
}
