import { GivenClock, redisClock } from '../../src/clock.js'
import type { Asked } from '../../src/gate/asked.js'
import { Gate } from '../../src/gate/gate.js'
import type { Call, Decision } from '../../src/index.js'
import { askFor } from '../../src/queue/stored.js'
import { compileRules } from '../../src/rules/compile.js'
import { checkRules } from '../../src/rules/read.js'
import type { RuleSpec } from '../../src/rules/rule.js'
import type { Namespace } from './namespace.js'

/** A Thursday; far from any border of minutes, so that tests place borders themselves. */
export const T0 = 1_800_000_000_000

/** A gate on real Redis whose time stands still until the test moves it. */
export function givenGate(namespace: Namespace, rules: readonly RuleSpec[], startMs = T0): { gate: Gate; clock: GivenClock } {
  const clock = new GivenClock(startMs)
  return { gate: new Gate(namespace.redis, namespace.keys, clock, compileRules(checkRules(rules))), clock }
}

/** A gate on Redis' own clock. */
export function realGate(namespace: Namespace, rules: readonly RuleSpec[]): Gate {
  return new Gate(namespace.redis, namespace.keys, redisClock, compileRules(checkRules(rules)))
}

/** A call as the gate asks for it, with what it costs; each of its starts has a ledger of its own. */
export function ask(gate: Gate, id: string, call: Call, start = id): Asked {
  return { ...askFor(gate, `calls/${id}`, '0', call, call.cost?.tokens ?? 0), ledger: `~/${start}` }
}

/** Decides at any of the gate's doors, as production code does there. */
export async function decideAt(gate: Gate, door: 'direct' | 'front' | 'start', asked: readonly Asked[]): Promise<Decision[]> {
  return door === 'start' ? ((await gate.start(asked, [], true)) as Decision[]) : gate[door](asked)
}
