import type { Bounds, Report } from './facts.js'
import { acceptedMs, chargeMs, type History, type Story } from './history.js'
import { PlacesOverTime } from './places.js'

/** Of so many calls that were told a time, one may start outside its range: who will come between is not known. In a few calls there is none. */
const TOLD_PER_MISS = 100
const FEW_TOLD = 20

/**
 * ETA told: 99 % of the calls of a fleet start when their apps were told that they would, within the range. Judged until the first fault, since a fault
 * may delay any start.
 *
 * Later than told is a fault of the program, unless a call that came after it went before it, a call cost more than it said, or no worker had a
 * place. Earlier than told is one only where no call gave room back before its time.
 */
export function etaTold(history: History, bounds: Bounds): Report[] {
  const disturbedMs = history.faults.find(({ fault }) => fault !== 'cancel')?.atMs ?? Number.POSITIVE_INFINITY
  const reports: Report[] = []
  let told = 0
  const places = new PlacesOverTime(history)
  const changes = changesOf(history)
  for (const story of history.stories.values()) {
    const { asked, answered, runs } = story
    const [run] = runs
    const { etaMs } = answered ?? {}
    if (asked.door !== 'queue' || acceptedMs(story) === undefined || answered === undefined || typeof etaMs !== 'number') continue
    if (
      run === undefined ||
      run.degraded ||
      run.started.atMs >= disturbedMs ||
      history.versions.some(({ atMs }, index) => index > 0 && atMs > asked.atMs - bounds.changeMs && atMs <= run.started.atMs)
    )
      continue
    told++
    const { etaMaxMs = etaMs } = answered
    const waitedMs = chargeMs(run) - answered.atMs
    const offMs = waitedMs < etaMs ? waitedMs - etaMs : Math.max(0, waitedMs - (etaMaxMs ?? Number.POSITIVE_INFINITY))
    if (Math.abs(offMs) <= bounds.etaMs) continue
    const met = history.metersDuring(asked.scopes, asked.atMs, asked.atMs).flat()
    // Starts that are spaced leave room of a window unused, and when they start follows from more than its room.
    if (asked.spaced === true && met.some(({ form }) => form !== null && 'windowMs' in form)) continue
    // When a slot comes free is not known before, and facts do not tell which calls wait in degraded mode, and so in other lines.
    if (met.some(({ form, limit }) => form?.kind === 'slots' || limit.mode !== undefined)) continue
    const meters = new Set(met.map(({ id }) => id))
    const shares = (other: Story) =>
      history.metersDuring(other.asked.scopes, asked.atMs, asked.atMs).some((version) => version.some(({ id }) => meters.has(id)))
    const between = changes.filter(({ atMs, story: other }) => other !== story && atMs >= asked.atMs && atMs <= run.started.atMs && shares(other))
    const later = () =>
      between.some((change) => change.kind === 'debt' || goesBefore(change, story)) || places.wereFull(asked.queue ?? '', asked.atMs, run.started.atMs)
    if (offMs < 0 ? between.some(({ kind }) => kind === 'room') : later()) continue
    const text = `${story.id} was told to start in ${rangeText(etaMs, etaMaxMs)} and starts ${Math.abs(offMs).toFixed(0)} ms ${offMs < 0 ? 'earlier' : 'later'}; ${bounds.etaMs} ms are allowed`
    reports.push({ oracle: 'eta told', atMs: run.started.atMs, text, calls: [story.id] })
  }
  return reports.length > (told < FEW_TOLD ? 0 : Math.ceil(told / TOLD_PER_MISS)) ? reports : []
}

function rangeText(etaMs: number, etaMaxMs: number | null): string {
  if (etaMaxMs === null) return `${etaMs.toFixed(0)} ms or more`
  return etaMaxMs === etaMs ? `${etaMs.toFixed(0)} ms` : `${etaMs.toFixed(0)} to ${etaMaxMs.toFixed(0)} ms`
}

/** What may move the start of another call. */
interface Change {
  readonly atMs: number
  readonly story: Story
  /** room: came back, or was not taken. debt: more was taken than the call said. start: of a call. */
  readonly kind: 'room' | 'debt' | 'start'
}

function changesOf(history: History): Change[] {
  const changes: Change[] = []
  for (const story of history.stories.values()) {
    const { asked, answered, runs, results } = story
    // It stands for a call that was there before, and takes no room of its own.
    if (answered?.outcome === 'joined') changes.push({ atMs: answered.atMs, story, kind: 'room' })
    for (const { started, ended, degraded } of runs) {
      if (degraded) changes.push({ atMs: started.atMs, story, kind: 'room' })
      changes.push({ atMs: started.atMs, story, kind: 'start' })
      if (ended === undefined) continue
      const spent = ended.how === 'sent back' || ended.how === 'released' ? {} : ended.reported ? ended.actual : asked.costs
      const units = Object.keys({ ...asked.costs, ...spent }) as (keyof typeof asked.costs)[]
      if (units.some((unit) => (spent[unit] ?? 0) < (asked.costs[unit] ?? 0))) changes.push({ atMs: ended.atMs, story, kind: 'room' })
      if (units.some((unit) => (spent[unit] ?? 0) > (asked.costs[unit] ?? 0))) changes.push({ atMs: ended.atMs, story, kind: 'debt' })
    }
    // A call that never ran leaves the room that others were told to wait for.
    const [result] = results
    if (runs.length === 0 && result !== undefined) changes.push({ atMs: result.atMs, story, kind: 'room' })
  }
  return changes
}

/** A start that no app could be told of before: of a call with a higher priority, a further attempt, or a call that does not stand in the line. */
function goesBefore({ kind, story }: Change, other: Story): boolean {
  if (kind !== 'start') return false
  const cameLater = story.asked.atMs >= other.asked.atMs
  return (cameLater && story.rank < other.rank) || story.runs.length > 1 || (cameLater && story.asked.door !== 'queue')
}
