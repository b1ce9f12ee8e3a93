import type { Call } from '../call.js'
import type { Asked } from '../gate/asked.js'
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
export function askFor(gate: Gate, id: string, token: string, call: Call, tokens: number): Asked {
  return { id, token, call, demand: gate.demand(call, tokens) }
}

const NOTHING: Demand = { parts: [], requests: 0, tokens: 0 }

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
  return { state: 'waiting', line: record.slice(0, end).split(' ').slice(3).join(' '), call }
}

/** Asks again for a call that is on its way, under the rules in force now. */
export function askAgain(gate: Gate, id: string, record: string | null): Asked {
  const stored = readRecord(record)
  if (stored === null || stored.call === null) return { id, token: '', call: { agent: '' }, demand: NOTHING }
  return askFor(gate, id, '', stored.call, stored.call.cost?.tokens ?? 0)
}
