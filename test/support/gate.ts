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
import type { Namespace } from './namespace.js'

/** A Thursday; far from any border of minutes, so that tests place borders themselves. */
export const T0 = 1_800_000_000_000

/** What calls ask under these rules. */
export function resolverOf(namespace: Namespace, rules: readonly RuleSpec[]): Resolver {
  return new Resolver(compileRules(checkRules(rules).rules), namespace.keys)
}

/** What a call says that it costs; a request and a point where it does not say. */
export function saidCosts({ cost = {} }: Call): Costs {
  const said = Object.fromEntries(COST_UNITS.flatMap((unit) => (cost[unit] === undefined ? [] : [[unit, cost[unit]]])))
  return { ...NOTHING, requests: 1, points: 1, ...said }
}

/** A gate on real Redis whose time stands still until the test moves it. */
export function givenGate(namespace: Namespace, rules: readonly RuleSpec[], startMs = T0): { gate: ScriptClient; clock: GivenClock } {
  const clock = new GivenClock(startMs)
  return { gate: new ScriptClient(namespace.redis, resolverOf(namespace, rules), clock), clock }
}

/** A gate on Redis' own clock. */
export function realGate(namespace: Namespace, rules: readonly RuleSpec[]): ScriptClient {
  return new ScriptClient(namespace.redis, resolverOf(namespace, rules), redisClock)
}

/** A call as the gate asks for it, with what it costs; each of its starts has a ledger of its own. */
export function ask(gate: ScriptClient, id: string, call: Call, start = id): CallRequest {
  return { ...callRequest(gate, `calls/${id}`, '0', call, saidCosts(call)), ledger: `~/${start}` }
}

/** Decides at any of the gate's doors, as production code does there. */
export async function decideAt(gate: ScriptClient, door: 'check' | 'enqueue' | 'start', requests: readonly CallRequest[]): Promise<Decision[]> {
  return door === 'start' ? ((await gate.start(requests, [], true)) as Decision[]) : gate[door](requests)
}
