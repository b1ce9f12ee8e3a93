import type { Bounds, FaultFact, FaultKind, Report } from './facts.js'
import { chargeMs, concerns, faultDuring, goesOnUntilMs, type History, type Run, type Story } from './history.js'

/** Faults for which the job of a run may be given to another worker, or its end be forgotten. */
const TAKES_JOBS: readonly FaultKind[] = ['death', 'cut', 'failover', 'node clock', 'redis clock']
/** The same, if it lasts so long that the lock of the job may end. A lock is renewed in the middle of its lease. */
const TAKES_JOBS_IN_TIME: readonly FaultKind[] = ['stop', 'redis away', 'redis refuses writes']
/** So long may a command take on a slow network, behind those that were sent before it. */
const SLOWEST_MS = 2000

/** Nothing twice: a call has one result, and what is done is not done again without a reason. */
export function nothingTwice(history: History, bounds: Bounds): Report[] {
  const reports: Report[] = []
  for (const story of history.stories.values()) {
    const { id, results, runs } = story
    const [first, second] = results
    if (second !== undefined) {
      reports.push({
        oracle: 'nothing twice',
        atMs: second.atMs,
        text: `${id} has ${results.length} results: ${results.map(({ how }) => how).join(', ')}`,
        calls: [id],
      })
    }
    for (const [index, run] of runs.entries()) {
      const before = runs[index - 1]
      const text = (before && twiceWithout(history, before, run, bounds)) ?? (first && afterEnd(history, story, first.atMs, run, bounds))
      if (text !== undefined) reports.push({ oracle: 'nothing twice', atMs: run.started.atMs, text: `${id} ${text}`, calls: [id] })
    }
  }
  return reports
}

/** Why a job may have been taken from the process of a run, between its charge and another start. */
function reason(history: History, run: Run, toMs: number, { stepMs, leaseMs }: Bounds): FaultFact | undefined {
  const fromMs = chargeMs(run) - stepMs
  return history.faults.find((fault) => {
    // A job may have been handed over on a slow network: its lock is older than its worker knows.
    const lateMs = fault.fault === 'slow network' ? leaseMs : 0
    if (!concerns(fault, run.started.by) || fault.atMs > toMs || goesOnUntilMs(fault) + lateMs < fromMs) return false
    if (TAKES_JOBS.includes(fault.fault)) return true
    if (fault.fault === 'slow network') return leaseMs / 2 < SLOWEST_MS
    return TAKES_JOBS_IN_TIME.includes(fault.fault) && (fault.untilMs - fault.atMs > leaseMs / 2 || closesDuring(history, run, fault))
  })
}

/** A client whose connection was lost tries again after a second at the latest. */
const RECONNECTS_MS = 1500

/** A worker that closes does not wait for a Redis that refuses the ends of its jobs, or that it has not reached again yet. */
function closesDuring({ workers }: History, { started }: Run, { atMs, untilMs }: FaultFact): boolean {
  return workers.some((worker) => worker.process === started.by && worker.state === 'gone' && worker.atMs >= atMs && worker.atMs <= untilMs + RECONNECTS_MS)
}

/** Faults that break connections: what had no answer by then is sent again. */
const BREAKS: readonly FaultKind[] = ['cut', 'repeated send', 'failover', 'redis away']

/** A plain producer gives its jobs no ids: where it sends one again, there are two. */
function isTwoJobs(history: History, { asked, answered }: Story): boolean {
  return asked.door === 'plain job' && faultDuring(history, BREAKS, undefined, asked.atMs, answered?.atMs ?? asked.atMs) !== undefined
}

function twiceWithout(history: History, before: Run, run: Run, bounds: Bounds): string | undefined {
  if (isTwoJobs(history, run.story)) return undefined
  const { ended } = before
  const startedMs = run.started.atMs
  // Another attempt, or a call that came back: each of these ends gives the call free.
  const free = ended !== undefined && ended.how !== 'done' && ended.atMs <= startedMs
  // A process that stands still between a charge and its start comes later than a run that was charged after it.
  const first = chargeMs(run) < chargeMs(before) ? run : before
  if (free || reason(history, first, startedMs, bounds) !== undefined) return undefined
  const state = ended !== undefined && ended.atMs <= startedMs ? 'was done' : 'was under way'
  return `starts again in ${run.started.by} though its run ${before.started.run} in ${before.started.by} ${state}, and no disturbance explains it`
}

function afterEnd(history: History, story: Story, endMs: number, run: Run, { stepMs, leaseMs }: Bounds): string | undefined {
  const { asked, results } = story
  if (run.started.atMs <= endMs + stepMs || results.length === 0 || isTwoJobs(history, story)) return undefined
  const disturbed = history.faults.some(
    (fault) =>
      (TAKES_JOBS.includes(fault.fault) || TAKES_JOBS_IN_TIME.includes(fault.fault)) &&
      fault.atMs <= run.started.atMs &&
      goesOnUntilMs(fault) + leaseMs >= asked.atMs &&
      concerns(fault, run.started.by),
  )
  return disturbed ? undefined : `starts ${(run.started.atMs - endMs).toFixed(0)} ms after its app was told that it is ${results[0]?.how}`
}
