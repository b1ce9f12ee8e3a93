import { type LineSeen, sharedByAll, tenantOf } from '../history/seen.js'
import type { HealthReason } from '../model/health-reason.js'
import { durationText, SECOND } from '../model/time.js'
import { BLOCK_LIMIT, BLOCK_NAME } from '../model/upstream.js'
import { unescapePart } from '../policy/match.js'
import type { HealthFacts } from './facts.js'
import type { Health } from './health.js'

/** One thing that holds up calls. */
export interface Cause extends Pick<Health, 'reason' | 'sinceMs' | 'sentence' | 'whom' | 'why'> {
  /** How many calls it holds up. */
  readonly calls: number
  readonly command: string
  readonly of: { readonly [Field in keyof Health['of']]?: Health['of'][Field] }
  /** What to do, where that of the reason does not fit. */
  readonly todo?: string
}

/** A line of a shared limit is a cause when it has stood for so long without a break, and its first call has waited for so long: bursts come and go. */
const STANDS_MS = 5 * SECOND
const WAITED_MS = 3 * SECOND
/** An agent that is blocked for less than this is back before anyone has read of it. */
const SHORT_BLOCK_MS = 3 * SECOND
/** While the probe of a blocked agent is under way, the other calls wait for as long as that call takes. */
const PROBED_MS = 10 * SECOND
/** A tenant floods a shared limit with so many calls at least, and more than half of all. */
const FLOOD_CALLS = 10
/** A call is oversized where it needs so much of what its limit can hold. */
const OVERSIZED = 0.5

export function counted(number: number, what: string): string {
  return `${number.toLocaleString('en-US')} ${what}${number === 1 ? '' : 's'}`
}

/** The most of a name that a sentence shows. */
const NAME_LENGTH = 40

/** A name in a sentence. */
export function shortened(name: string): string {
  return name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH)}…` : name
}

export function callsIn(lines: readonly LineSeen[]): number {
  return lines.reduce((sum, { depth }) => sum + depth, 0)
}

/** What a line says; null where its wait is none to speak of. */
export function causeOfLine(line: LineSeen, facts: HealthFacts): Cause | null {
  const { rule } = line
  if (rule.startsWith('~pause')) return paused(line)
  if (rule === BLOCK_NAME || rule === '~returned' || line.kind === 'upstream') return blocked(line, facts)
  // Lines of queues are judged by the workers of these.
  if (rule.startsWith('~')) return null
  return oversized(line) ?? deadSlots(line, facts) ?? limited(line, facts)
}

function basics(line: LineSeen): Pick<Cause, 'sinceMs' | 'calls'> & { readonly of: Cause['of'] } {
  const { rule, scopeValue, limit, sinceMs, depth, who } = line
  return { sinceMs, calls: depth, of: { rule, scopeValue, limit, org: who[0]?.org === '–' ? null : (who[0]?.org ?? null) } }
}

function whomOf({ depth, who }: LineSeen): string {
  const listed = who.slice(0, 4).map(({ org, calls }) => `${shortened(org)} ${calls.toLocaleString('en-US')}`)
  return who.length === 0 || (who.length === 1 && who[0]?.org === '–') ? `${counted(depth, 'call')}.` : `${counted(depth, 'call')}: ${listed.join(', ')}.`
}

function paused(line: LineSeen): Cause {
  const kind = line.rule.slice('~pause.'.length)
  const value = unescapePart(line.scopeValue)
  return {
    reason: 'PAUSED',
    ...basics(line),
    sentence: `Calls of ${kind} ${shortened(value)} are paused.`,
    whom: whomOf(line),
    why: 'An operator paused them; they keep their places and are not charged.',
    command: `tollgate resume ${kind} ${value}`,
  }
}

function blocked(line: LineSeen, { nowMs }: HealthFacts): Cause | null {
  const { rule, agent, etaMs, limit, limitSinceMs, oldestMs } = line
  // A line of another rule may have stood for long when its first call met the block.
  const sinceMs = rule === BLOCK_NAME ? line.sinceMs : (limitSinceMs ?? line.sinceMs)
  const known = { ...basics(line), sinceMs }
  const cause = { reason: 'UPSTREAM' as const, ...known, of: { ...known.of, agent }, whom: whomOf(line), command: `tollgate capacity get ${agent}` }
  const standsMs = nowMs - sinceMs
  // The block is over, and its line moves by the limits that it cut.
  if (rule === BLOCK_NAME && limit !== BLOCK_LIMIT) {
    if (standsMs < STANDS_MS || (oldestMs ?? 0) < WAITED_MS) return null
    return { ...cause, sentence: `Agent ${shortened(agent)} recovers from refusals; its limits are cut.`, why: 'Its limits grow back step by step.' }
  }
  if ((etaMs ?? 0) < SHORT_BLOCK_MS && standsMs < (etaMs === null ? PROBED_MS : STANDS_MS)) return null
  const why = etaMs === null ? 'It answered "not now" (429).' : `It answered "not now" (429); the next try is in ${durationText(etaMs)}.`
  return { ...cause, sentence: `Agent ${shortened(agent)} refused calls and is left alone.`, why }
}

function oversized(line: LineSeen): Cause | null {
  const { binds, depth, oldestMs, head } = line
  if (binds === null || binds.unit === 'concurrency' || depth < 2 || (oldestMs ?? 0) < WAITED_MS) return null
  const { needs, capacity, remaining, unit } = binds
  // One request of a limit of one is no large one.
  if (needs <= 1 || needs < OVERSIZED * capacity || remaining >= needs) return null
  const known = basics(line)
  return {
    reason: 'OVERSIZED_HEAD',
    ...known,
    of: { ...known.of, call: head },
    sentence: 'The first call in line needs most of its limit.',
    whom: `${counted(depth - 1, 'call')} behind it.`,
    why: `Call ${shortened(head)} needs ${plainAmount(needs)} ${unit} of the ${plainAmount(capacity)} that ${line.rule}/${line.limit} can hold; ${plainAmount(remaining)} are free.`,
    command: `tollgate cancel ${head}`,
  }
}

function deadSlots(line: LineSeen, { workers, queues, nowMs }: HealthFacts): Cause | null {
  if (line.waitsFor !== 'CONCURRENCY') return null
  const ofQueue = workers.filter(({ queue }) => queue === line.queue)
  // One that ended by itself has taken its report back.
  const dead = ofQueue.filter(({ untilMs }) => untilMs <= nowMs)
  const running = (of: typeof workers) => of.reduce((sum, report) => sum + report.running, 0)
  // Its last report may be older than its last calls: what is active and run by no worker that lives is a call of a dead one.
  const active = queues.find(({ name }) => name === line.queue)?.active ?? 0
  const slots = Math.max(running(dead), active - running(ofQueue.filter(({ untilMs }) => untilMs > nowMs)))
  if (dead.length === 0 || slots === 0) return null
  return {
    reason: 'DEAD_SLOTS',
    ...basics(line),
    sinceMs: Math.min(...dead.map(({ untilMs }) => untilMs)),
    sentence: `A dead worker holds ${counted(slots, 'slot')} of rule ${shortened(line.rule)}.`,
    whom: whomOf(line),
    why: `${counted(dead.length, 'worker')} ended without giving ${counted(slots, 'running call')} back; the slots come back when their leases end.`,
    command: 'tollgate lines',
  }
}

function limited(line: LineSeen, facts: HealthFacts): Cause | null {
  const { rule, scopeValue, waitsFor, limit, binds, who, depth } = line
  const { specs, nowMs, severalOrgs } = facts
  const shared = sharedByAll(specs, rule)
  // A line that was never seen with a limit that binds its first call is named by its rule.
  const shownLimit = limit ?? shortened(rule)
  const name = limit === null ? rule : `${rule}/${limit}`
  if (waitsFor === 'BUDGET' && (shared || binds?.unit === 'usd')) {
    const whose = shared ? '' : ` of ${shortened(tenantOf(specs, rule, scopeValue) ?? scopeValue)}`
    const why = `${name} has ${binds === null ? 'no room' : `${plainAmount(binds.remaining)} of ${plainAmount(binds.capacity)} ${binds.unit} left`}.`
    return {
      reason: 'BUDGET',
      ...basics(line),
      sentence: `The budget ${shownLimit}${whose} is spent.`,
      whom: whomOf(line),
      why,
      command: `tollgate meters get ${rule} ${scopeValue}`,
    }
  }
  if (!shared) {
    const tenant = shortened(tenantOf(specs, rule, scopeValue) ?? unescapePart(scopeValue))
    const why = `${name} is full for ${tenant} alone: that is the gate at work.`
    return { reason: 'OWN_LIMIT', ...basics(line), sentence: `${tenant} waits at its own limit; others flow.`, whom: whomOf(line), why, command: '' }
  }
  if (nowMs - line.sinceMs < STANDS_MS || (line.oldestMs ?? 0) < WAITED_MS) return null
  const [most] = who
  const isFlood = most !== undefined && most.org !== '–' && severalOrgs && depth >= FLOOD_CALLS && most.calls > depth / 2
  const reason: HealthReason = isFlood ? 'FLOOD' : waitsFor === 'CONCURRENCY' ? 'CONCURRENCY' : 'RATE'
  const sentence = isFlood ? `${shortened(most.org)} floods the shared limit ${shownLimit}.` : `Calls wait for ${shownLimit}, which all share.`
  const why = `${name} is full for ${unescapePart(scopeValue)}${line.etaMs === null ? '' : `; the first call starts in ${durationText(line.etaMs)}`}.`
  return { reason, ...basics(line), sentence, whom: whomOf(line), why, command: `tollgate lines --rule ${rule}` }
}

function plainAmount(number: number): string {
  return number.toLocaleString('en-US', { maximumFractionDigits: 2 })
}
