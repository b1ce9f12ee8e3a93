import { type Bounds, FACT_UNITS, type FaultKind, type Report } from './facts.js'
import { acceptedMs, chargeMs, type History, type Run, type Story } from './history.js'
import { PlacesOverTime } from './places.js'

/** Faults after which calls may come back, or be held up, one by one. */
const DISTURBS_ORDER: readonly FaultKind[] = [
  'death',
  'stop',
  'cut',
  'repeated send',
  'failover',
  'node clock',
  'redis clock',
  'function flush',
  'slow network',
  'redis refuses writes',
  'redis away',
  'rule change',
  'override',
  'pause',
  'paused queue',
]

/** Two calls that are woken in order go to workers of their own, and each of the two may take a step on its way. */
const STEPS = 2

interface Place {
  readonly story: Story
  readonly run: Run
  readonly startMs: number
}

/** In order: of calls that wait for the same meters in the same queue, the one with the earlier place starts first. */
export function inOrder(history: History, bounds: Bounds): Report[] {
  const reports: Report[] = []
  const places = new PlacesOverTime(history)
  for (const line of linesOf(history)) {
    line.sort((a, b) => a.story.rank - b.story.rank)
    // The earliest start among the calls behind each one: where it is not earlier, none of them is.
    let earliest: Place | undefined
    const behind: (Place | undefined)[] = []
    for (let index = line.length - 1; index >= 0; index--) {
      behind[index] = earliest
      const own = line[index] as Place
      if (earliest === undefined || own.startMs < earliest.startMs) earliest = own
    }
    for (const [index, first] of line.entries()) {
      const soonest = behind[index]
      if (soonest === undefined || soonest.startMs >= first.startMs - STEPS * bounds.stepMs) continue
      const overtaker = line.find((later, at) => at > index && overtakes(history, bounds, places, first, later))
      if (overtaker !== undefined) reports.push(reportOf(first, overtaker))
    }
  }
  return reports
}

/** Calls that were told to wait, by queue and meters. Calls of plain producers have no place before a worker meets them. */
function linesOf(history: History): Place[][] {
  const lines = new Map<string, Place[]>()
  const refused = firstRefusals(history)
  for (const story of history.stories.values()) {
    const { asked, answered, runs } = story
    const [run] = runs
    if (asked.door !== 'queue' || answered?.outcome !== 'wait' || asked.spaced === true || run === undefined || run.degraded) continue
    // An agent that refuses chooses by itself which call it tries next.
    if (chargeMs(run) >= (refused.get(asked.scopes.agent ?? '') ?? Number.POSITIVE_INFINITY)) continue
    const [meters = []] = history.metersDuring(asked.scopes, asked.atMs, asked.atMs)
    // Which calls wait in degraded mode, and so in other lines, facts do not tell.
    if (meters.length === 0 || meters.some(({ limit }) => limit.mode !== undefined)) continue
    const line = `${asked.queue} ${asked.waits} ${meters.map(({ id }) => id).join()}`
    const places = lines.get(line) ?? []
    lines.set(line, places)
    places.push({ story, run, startMs: chargeMs(run) })
  }
  return [...lines.values()]
}

/** When each agent refused a call first. */
export function firstRefusals({ runs }: History): Map<string, number> {
  const refused = new Map<string, number>()
  for (const { ended, started, story } of runs) {
    const agent = story.asked.scopes.agent ?? ''
    if (ended?.how === 'sent back') refused.set(agent, Math.min(refused.get(agent) ?? Number.POSITIVE_INFINITY, started.atMs))
  }
  return refused
}

function overtakes(history: History, { stepMs, changeMs, leaseMs }: Bounds, places: PlacesOverTime, first: Place, later: Place): boolean {
  const { asked } = first.story
  if (later.startMs >= first.startMs - STEPS * stepMs || !costsAsMuch(later.story, first.story) || areAtOnce(first.story, later.story)) return false
  const knownMs = acceptedMs(first.story) ?? Number.POSITIVE_INFINITY
  // Both have to wait at the same time; a call that is woken already is not called back for one of a higher priority.
  if (knownMs + stepMs > later.startMs) return false
  const fromMs = Math.min(asked.atMs, later.story.asked.atMs)
  if (asked.atMs > later.story.asked.atMs && places.wereFull(asked.queue ?? '', asked.atMs, later.startMs)) return false
  const changed = history.versions.some(({ atMs }, index) => index > 0 && atMs > fromMs - changeMs && atMs <= first.startMs)
  return (
    !changed &&
    !history.faults.some(
      ({ fault, atMs, untilMs }) => DISTURBS_ORDER.includes(fault) && atMs <= first.startMs && Math.min(untilMs, atMs + leaseMs) + leaseMs >= fromMs,
    )
  )
}

/**
 * Which of two apps' commands Redis gets first follows from the network, unless one was answered before the other asked. A call whose app is asked gets in
 * line after that.
 */
function areAtOnce(first: Story, later: Story): boolean {
  const knownMs = acceptedMs(first) ?? Number.POSITIVE_INFINITY
  const mayChange = first.asked.by !== later.asked.by || first.asked.asksApp === true
  return first.asked.priority === later.asked.priority && mayChange && knownMs > later.asked.atMs
}

/** A cheaper call may find room at a second meter, in whose line the dearer one waits meanwhile. */
function costsAsMuch(later: Story, first: Story): boolean {
  return FACT_UNITS.every((unit) => (later.asked.costs[unit] ?? 0) >= (first.asked.costs[unit] ?? 0))
}

function reportOf(first: Place, later: Place): Report {
  const { id, asked } = first.story
  const other = later.story
  const why = asked.priority > other.asked.priority ? `has the higher priority (${asked.priority} to ${other.asked.priority})` : 'was asked for first'
  return {
    oracle: 'in order',
    atMs: later.startMs,
    text: `${id} ${why} and starts ${(first.startMs - later.startMs).toFixed(0)} ms after ${other.id}, though both waited for the same meters`,
    calls: [id, other.id],
  }
}
