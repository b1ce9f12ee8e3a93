import type { Bounds, Door, FaultKind, Form, Report } from './facts.js'
import { chargeMs, concerns, goesOnUntilMs, type History, type Run } from './history.js'
import { isUnchecked } from './starts.js'

const DOORS_WITHOUT_RENEWAL: readonly Door[] = ['gate', 'acquire']

export interface SlotRun {
  readonly run: Run
  readonly atMs: number
}

/**
 * Faults of one process, and of Redis' memory, after which its slots may be another's. A Redis that is away is none: all processes are cut off alike,
 * and those that run calls renew their slots before others can take them.
 */
const KEEPS_FROM_RENEWING: readonly FaultKind[] = ['stop', 'cut', 'failover', 'redis clock', 'node clock']

/**
 * A lease is renewed several times in its length. A disturbance of this part of it may let it end, so from then on the run is one that the limit
 * does not hold any more.
 */
const SILENT_SHARE = 0.5

/** From when on a run may hold no slot though it goes on; Infinity: it holds one to its end. */
function loosedMs(history: History, { story, started, ended, diedMs, chargedMs }: Run, leaseMs: number): number {
  // A call that is cancelled is over for Tollgate; its handler may go on though its signal has told it.
  const cancelled = story.faults.find(({ fault, atMs }) => fault === 'cancel' && atMs >= started.atMs)
  return Math.min(cancelled?.atMs ?? Number.POSITIVE_INFINITY, silencedMs(history, { started, ended, diedMs, chargedMs }, leaseMs))
}

function silencedMs(history: History, { started, ended, diedMs, chargedMs }: Pick<Run, 'started' | 'ended' | 'diedMs' | 'chargedMs'>, leaseMs: number): number {
  const toMs = ended?.atMs ?? diedMs ?? history.endMs
  const fromMs = Math.min(chargedMs ?? started.atMs, started.atMs)
  for (const fault of history.faults) {
    if (!KEEPS_FROM_RENEWING.includes(fault.fault) || !concerns(fault, started.by)) continue
    if (fault.atMs > toMs || goesOnUntilMs(fault) < fromMs) continue
    // A state from before the charge holds no slot for it; a clock that is set ends leases at once.
    if (fault.fault === 'failover' && (fault.lostFromMs ?? Number.NEGATIVE_INFINITY) <= toMs) return Math.max(fromMs, fault.atMs)
    if (fault.fault === 'redis clock' && (fault.byMs ?? 1) > 0) return Math.max(fromMs, fault.atMs)
    const silentMs = Math.min(goesOnUntilMs(fault), toMs) - Math.max(fault.atMs, fromMs)
    if (silentMs > leaseMs * SILENT_SHARE) return Math.max(fault.atMs, fromMs) + leaseMs * SILENT_SHARE
  }
  return Number.POSITIVE_INFINITY
}

/** Reports runs at once above the slots, each time the number rises above them. */
export function slotReports(history: History, bounds: Bounds, meter: string, runs: readonly SlotRun[], formAt: (atMs: number) => Form | null): Report[] {
  const changes: { atMs: number; by: 1 | -1; run: Run }[] = []
  for (const { run, atMs } of runs) {
    if (isUnchecked(history, run, bounds)) continue
    const form = formAt(atMs)
    const leaseMs = form?.kind === 'slots' ? form.leaseMs : 0
    // A grant without a worker is not renewed: its slot ends with its lease.
    const grantEndMs = DOORS_WITHOUT_RENEWAL.includes(run.story.asked.door) ? chargeMs(run) + leaseMs : Number.POSITIVE_INFINITY
    const endMs = Math.min(grantEndMs, run.ended?.atMs ?? run.diedMs ?? history.endMs, loosedMs(history, run, leaseMs))
    if (endMs <= atMs) continue
    changes.push({ atMs, by: 1, run }, { atMs: endMs, by: -1, run })
  }
  changes.sort((a, b) => a.atMs - b.atMs || a.by - b.by)
  const reports: Report[] = []
  const running = new Set<Run>()
  for (const { atMs, by, run } of changes) {
    if (by < 0) {
      running.delete(run)
      continue
    }
    running.add(run)
    // A start was charged up to a step before; so slots that were more until then are enough.
    const forms = [formAt(atMs), formAt(atMs - bounds.stepMs)]
    const slots = Math.max(...forms.map((form) => (form?.kind === 'slots' ? form.slots : Number.POSITIVE_INFINITY)))
    if (running.size <= slots) continue
    const calls = [run, ...[...running].filter((one) => one !== run)].map(({ story }) => story.id)
    reports.push({
      oracle: 'never over',
      atMs,
      text: `${meter} has ${running.size} runs at once with the start of ${run.story.id}; ${slots} are allowed`,
      calls,
    })
  }
  return reports
}
