import { costIn, type MetRef } from './coverage.js'
import type { Bounds, FaultKind, Report } from './facts.js'
import { concerns, faultDuring, goesOnUntilMs, type History, type Run } from './history.js'

/** Faults for which a reply may take longer than a step. */
const SLOWS_REPLIES: readonly FaultKind[] = [
  'death',
  'stop',
  'cut',
  'slow network',
  'failover',
  'redis away',
  'redis refuses writes',
  'redis clock',
  'repeated send',
]

/** Whether a start, whose charge no fact tells, may have been charged long before: the reply was slow. */
export function isChargedLongBefore(history: History, { chargedMs, started }: Run, { stepMs }: Bounds): boolean {
  return chargedMs === undefined && faultDuring(history, SLOWS_REPLIES, started.by, started.atMs - stepMs, started.atMs) !== undefined
}

/** The time at which a start counts for the agent, and a report where it came too long after its charge. */
export function judgedStart(history: History, run: Run, { stepMs }: Bounds): { judgedMs: number; report?: Report } {
  const { chargedMs, started, story } = run
  if (chargedMs === undefined) return { judgedMs: started.atMs }
  const lagMs = started.atMs - chargedMs
  const excused = () => faultDuring(history, SLOWS_REPLIES, started.by, Math.min(chargedMs, started.atMs) - stepMs, started.atMs) !== undefined
  const report = (text: string): Report => ({ oracle: 'never over', atMs: started.atMs, text, calls: [story.id] })
  if (lagMs > stepMs && !excused()) {
    const text = `${story.id} reached its agent ${lagMs.toFixed(1)} ms after its charge; ${stepMs} ms are allowed in ${started.by}, which was not disturbed`
    return { judgedMs: started.atMs - stepMs, report: report(text) }
  }
  // What a process lets in by itself it charges at the time that it takes Redis' clock to show.
  if (lagMs < -1 && !run.unchecked && !excused()) {
    return { judgedMs: started.atMs, report: report(`${story.id} reached its agent ${(-lagMs).toFixed(1)} ms before it was charged; the charge comes first`) }
  }
  return { judgedMs: Math.min(chargedMs, started.atMs) }
}

const OUTAGES: readonly FaultKind[] = ['redis away', 'redis refuses writes', 'failover']

/** A process notices that Redis is back when a probe is answered, and then waits for what the others have to report. */
export const RETURN_MS = 10_000

/** While Redis is away, calls without the queue are let in by their own processes, and charged when it is back. */
export function isUnchecked(history: History, { story, started, unchecked }: Run, { stepMs }: Bounds): boolean {
  if (story.asked.door === 'queue' || story.asked.door === 'plain job') return false
  const returnMs = unchecked ? RETURN_MS : 2 * stepMs
  return history.faults.some(({ fault, atMs, untilMs }) => OUTAGES.includes(fault) && atMs <= started.atMs && started.atMs <= untilMs + returnMs)
}

/** When a run that its process let in by itself is known in Redis at the latest. */
export function reportedByMs({ faults }: History, { started }: Run): number {
  const outage = faults.findLast(({ fault, atMs }) => OUTAGES.includes(fault) && atMs <= started.atMs)
  return outage === undefined ? started.atMs : outage.untilMs + RETURN_MS
}

/** What a run cost its agent at its start, and what it turned out to cost above its estimate when it ended. */
export function costsOf(run: Run, { limit }: MetRef): { atStart: number; debt: number } {
  const estimate = costIn(limit, run.story.asked.costs)
  const { ended } = run
  if (limit.unit === undefined) return { atStart: 1, debt: 0 }
  // What was recorded has happened already: it does not ask for room, and later starts have to wait for it.
  if (run.story.asked.door === 'record') return { atStart: 0, debt: estimate }
  if (ended === undefined) return { atStart: estimate, debt: 0 }
  switch (ended.how) {
    case 'sent back':
    case 'released':
      return { atStart: 0, debt: 0 }
    case 'done':
    case 'failed': {
      if (!ended.reported) return { atStart: estimate, debt: 0 }
      const actual = costIn(limit, ended.actual)
      return { atStart: Math.min(estimate, actual), debt: Math.max(0, actual - estimate) }
    }
    default:
      return ended.how satisfies never
  }
}

/** Faults for which what a run cost may be reported late. */
const DELAYS_SETTLEMENTS: readonly FaultKind[] = ['stop', 'cut', 'slow network', 'failover', 'redis away', 'redis refuses writes', 'node clock', 'redis clock']

/** When the end of a run is known in Redis at the latest; Infinity: never, since its process died first. */
export function settledByMs(history: History, run: Run, { stepMs }: Bounds): number {
  const { ended, started } = run
  if (ended === undefined) return Number.POSITIVE_INFINITY
  let byMs = ended.atMs + stepMs
  const { door } = run.story.asked
  // What a process let in, or recorded, by itself is reported when it has noticed that Redis is back.
  const backMs = door === 'queue' || door === 'plain job' ? 2 * stepMs : RETURN_MS
  for (const fault of history.faults) {
    if (concerns(fault, started.by) && DELAYS_SETTLEMENTS.includes(fault.fault) && fault.atMs <= byMs && goesOnUntilMs(fault) >= ended.atMs)
      byMs = Math.max(byMs, goesOnUntilMs(fault) + (OUTAGES.includes(fault.fault) ? backMs : 2 * stepMs))
  }
  return history.diedMs(started.by) <= byMs ? Number.POSITIVE_INFINITY : byMs
}
