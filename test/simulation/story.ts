import { NAMESPACE } from './fleet/fleet.js'
import type { SimulatedFleet } from './fleet/run-fleet.js'
import type { Fact } from './oracles/facts.js'
import { type JournalLine, seconds } from './world/journal.js'
import { EPOCH_MS } from './world/server.js'

const LONGEST_COMMAND = 300
const LONGEST_REPLY = 120

/** The story of one call: what was noted about it, and every command whose text or reply names it, in order. @param id its name, or its id in Redis */
export function storyOf({ fleet, facts, reports }: SimulatedFleet, id: string): string[] {
  const one = fleet.calls.get(id) ?? [...fleet.calls.values()].find((call) => call.id === id)
  if (one === undefined) return [`no call ${id}; calls are named k1 to k${fleet.calls.size}`]
  const names = [one.name, one.id].filter((name) => name !== '')
  const lines = fleet.world.journal.all().filter((line) => names.some((name) => mentions(line, name)) || line.who === 'fault' || line.who === 'redis')
  const own = facts.filter((fact) => 'call' in fact && fact.call === one.name)
  return [
    `call ${one.name}, id ${one.id}, of ${one.by.name}: ${JSON.stringify(one.call)}`,
    ...lines.map((line) => `${seconds(line.atMs).padStart(9)}  ${line.who.padEnd(16)}  ${lineText(line)}`),
    'facts:',
    ...own.map((fact) => `  ${factText(fact)}`),
    ...reports.filter(({ calls }) => calls.includes(one.name)).map(({ oracle, text }) => `report: ${oracle}: ${text}`),
  ]
}

function mentions({ text, detail }: JournalLine, name: string): boolean {
  const pattern = new RegExp(`(^|[^0-9A-Za-z-])${name}([^0-9A-Za-z-]|$)`)
  return pattern.test(text) || (detail !== undefined && pattern.test(detail))
}

function lineText({ text, detail }: JournalLine): string {
  if (detail === undefined) return text
  const [sent = '', reply = ''] = detail.split('\u0000')
  const name = text.split(' ').slice(0, 2).join(' ')
  return `${name} ${readable(sent, LONGEST_COMMAND)} → ${readable(reply, LONGEST_REPLY)}`
}

/** Bytes of the protocol without its lengths. */
function readable(bytes: string, longest: number): string {
  const text = bytes
    .replace(/[*$:>~%]-?\d+\r\n/g, '')
    .replaceAll('\r\n', ' ')
    .replace(/[^ -~]+/g, '·')
    .replace(/\b(fcall|FCALL|evalsha|EVALSHA) \S+ \d+ /g, '')
    .replaceAll(`{tollgate:${NAMESPACE}}`, '')
    // The keys that every script over meters gets first.
    .replace('/lines /passes /sequence /queued /wake /figures /deadlines ', '')
  return text.length > longest ? `${text.slice(0, longest)}…` : text
}

function factText(fact: Fact): string {
  const { fact: kind, atMs, ...rest } = fact
  return `${((atMs - EPOCH_MS) / 1000).toFixed(3)} ${kind} ${JSON.stringify(rest)}`
}
