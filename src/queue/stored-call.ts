import type { AskedCall, Demand } from '../admission/request.js'
import type { Call } from '../model/call.js'
import { COST_UNITS, type Costs, NOTHING } from '../model/cost.js'
import { readRecord } from '../store/redis/record.js'
import type { Gate } from '../store/redis/script-client.js'

/** The gate's id of a queue's job: queues of a namespace share their gate, job ids are a queue's own. */
export function gateId(queue: string, jobId: string): string {
  return `${queue}/${jobId}`
}

export function parseGateId(id: string): { queue: string; jobId: string } {
  const slash = id.indexOf('/')
  return { queue: id.slice(0, slash), jobId: id.slice(slash + 1) }
}

/** Puts a call and its estimate into what the gate asks for. */
export function askFor(gate: Gate, id: string, token: string, call: Call, costs: Costs): AskedCall {
  return { id, token, call, demand: gate.demand(call, costs) }
}

/** The demand of a call that nothing is known of. */
const NO_DEMAND: Demand = { parts: [], costs: NOTHING, counted: [] }

/** Gives back what a call holds that has not started: its place in line, or its pass. */
export async function leave(gate: Gate, asked: AskedCall): Promise<void> {
  const stored = readRecord(await gate.recordOf(asked.id))
  if (stored !== null && stored.state !== 'started') await gate.release({ ...asked, token: '', ledger: undefined }, stored.line)
}

/** Asks again for a call that is on its way, under the rules in force now. */
export function askAgain(gate: Gate, id: string, record: string | null): AskedCall {
  const stored = readRecord(record)
  if (stored === null || stored.call === null) return { id, token: '', call: { agent: '' }, demand: NO_DEMAND }
  return askFor(gate, id, '', stored.call, knownCosts(stored.call))
}

/** What was known when the call got in line. In a unit that no rule counted then it is free until its worker estimates it. */
function knownCosts({ cost = {} }: Call): Costs {
  return {
    ...NOTHING,
    requests: cost.requests ?? 1,
    points: cost.points ?? 1,
    ...Object.fromEntries(COST_UNITS.flatMap((unit) => (cost[unit] === undefined ? [] : [[unit, cost[unit]]]))),
  }
}
