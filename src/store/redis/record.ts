import type { Call } from '../../model/call.js'

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
