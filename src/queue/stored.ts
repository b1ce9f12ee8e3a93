import type { Call } from '../call.js'
import { COST_UNITS, type Costs, NOTHING } from '../cost/units.js'
import type { AskedCall } from '../gate/asked.js'
import type { Demand } from '../gate/demand.js'
import type { Gate } from '../gate/gate.js'

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

/** What a record says without asking Redis again; `lua/lib/record.lua` describes its forms. */
export interface StoredCall {
  readonly state: 'waiting' | 'passed' | 'started'
  /** The key of the line a waiting call stands in. */
  readonly line: string
  readonly call: Call | null
}

export function readRecord(record: string | null): StoredCall | null {
  if (record === null || record === '') return null
  if (record.startsWith('S')) return { state: 'started', line: '', call: null }
  const end = record.indexOf('\n')
  const call = JSON.parse(record.slice(end + 1)) as Call
  if (record.startsWith('P')) return { state: 'passed', line: '', call }
  return { state: 'waiting', line: record.slice(0, end).split(' ').slice(4).join(' '), call }
}

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
