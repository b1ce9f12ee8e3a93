import type { CallRequest, ResolvedMeters } from '../admission/request.js'
import type { Call } from '../model/call.js'
import { COST_UNITS, type Costs, NOTHING } from '../model/cost.js'
import { readRecord } from '../store/redis/record.js'
import type { ScriptClient } from '../store/redis/script-client.js'

/** The gate's id of a queue's job: queues of a namespace share their gate, job ids are a queue's own. */
export function recordId(queue: string, jobId: string): string {
  return `${queue}/${jobId}`
}

export function parseRecordId(id: string): { queue: string; jobId: string } {
  const slash = id.indexOf('/')
  return { queue: id.slice(0, slash), jobId: id.slice(slash + 1) }
}

/** Puts a call and its estimate into what the gate asks for. */
export function callRequest(scriptClient: ScriptClient, id: string, token: string, call: Call, costs: Costs): CallRequest {
  return { id, token, call, ...scriptClient.resolve(call, costs) }
}

/** The demand of a call that nothing is known of. */
const NO_METERS: ResolvedMeters = { meters: [], costs: NOTHING, counted: [] }

/** Gives back what a call holds that has not started: its place in line, or its pass. */
export async function leave(scriptClient: ScriptClient, request: CallRequest): Promise<void> {
  const stored = readRecord(await scriptClient.recordOf(request.id))
  if (stored !== null && stored.state !== 'started') await scriptClient.release({ ...request, token: '', ledger: undefined }, stored.line)
}

/** Asks again for a call that is on its way, under the rules in force now. */
export function restoredRequest(scriptClient: ScriptClient, id: string, record: string | null): CallRequest {
  const stored = readRecord(record)
  if (stored === null || stored.call === null) return { id, token: '', call: { agent: '' }, ...NO_METERS }
  return callRequest(scriptClient, id, '', stored.call, knownCosts(stored.call))
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
