import type { Bounds, FaultFact, FaultKind, HandedFact } from './facts.js'
import { concerns, goesOnUntilMs, type History, type Story } from './history.js'

/** Faults of processes, connections and Redis: a worker may keep what it holds until the lease has ended. */
const HOLDS: readonly FaultKind[] = ['death', 'stop', 'cut', 'slow network', 'failover', 'redis away', 'redis refuses writes', 'redis clock', 'repeated send']
/** Faults that delay a call by some moments. */
const DELAYS: readonly FaultKind[] = ['node clock', 'function flush', 'rule change', 'override', 'pause', 'paused queue', 'workerless queue']
/** After the lease the job is looked for twice, a lease apart. */
const LEASES = 3

/** While Redis does not answer, nothing can start. */
export const STOPS_ALL: readonly FaultKind[] = ['redis away', 'redis refuses writes', 'failover']

/** How late calls may be for the sake of sick participants. */
export class Sickness {
  /** Meters at which a call of a dead app may stand, or one whose job was removed: since when. */
  private readonly ghosts = new Map<string, number>()
  /** How many calls each fault was taken to hold. */
  private readonly held = new Map<FaultFact, number>()

  constructor(
    private readonly history: History,
    private readonly bounds: Bounds,
  ) {
    for (const story of history.stories.values()) {
      const { asked, answered, faults, runs } = story
      const unanswered = asked.door === 'queue' && (answered === undefined || answered.outcome === 'unknown')
      const removed = faults.find(({ fault }) => fault === 'removed job')
      const sentBack = runs.find(({ ended }) => ended?.how === 'sent back')
      if (!unanswered && removed === undefined && sentBack === undefined) continue
      const sinceMs = unanswered ? asked.atMs : Math.min(removed?.atMs ?? Number.POSITIVE_INFINITY, sentBack?.started.atMs ?? Number.POSITIVE_INFINITY)
      for (const { id } of history.metersDuring(asked.scopes, sinceMs, sinceMs).flat())
        this.ghosts.set(id, Math.min(this.ghosts.get(id) ?? Number.POSITIVE_INFINITY, sinceMs))
    }
  }

  /** A fault that may have delayed a start between two times. */
  disturbance(fromMs: number, toMs: number): FaultFact | undefined {
    const { lateSickMs, leaseMs, changeMs, stepMs } = this.bounds
    return this.history.faults.find((fault) => {
      if (fault.atMs - stepMs > toMs) return false
      const untilMs = goesOnUntilMs(fault)
      if (HOLDS.includes(fault.fault)) return untilMs + LEASES * leaseMs + lateSickMs >= fromMs
      return DELAYS.includes(fault.fault) && untilMs + changeMs + lateSickMs >= fromMs
    })
  }

  /** How late a call that could start from one time to another may be. */
  allowedMs(
    { asked, handed }: Story,
    meters: readonly { readonly id: string; readonly sickMs: number }[],
    fromMs: number,
    toMs: number,
  ): { ms: number; why: string } {
    const { lateMs, lateSickMs, leaseMs } = this.bounds
    const holder = this.holder(asked.queue, fromMs, toMs)
    if (holder !== undefined) {
      const goneMs = Math.max(0, Math.min(goesOnUntilMs(holder), toMs) - fromMs)
      return { ms: goneMs + LEASES * leaseMs + lateSickMs, why: `it may have been held: ${holder.text}` }
    }
    const lost = this.lostHandover(handed, fromMs, toMs)
    if (lost !== undefined) {
      const ms = goesOnUntilMs(lost) + LEASES * leaseMs + lateSickMs - fromMs
      if (ms > lateSickMs) return { ms, why: `its worker may have lost the job: ${lost.text}` }
    }
    const fault = this.disturbance(fromMs, toMs)
    if (fault !== undefined) return { ms: lateSickMs, why: `disturbed: ${fault.text}` }
    if (meters.some((meter) => this.isShared(meter, fromMs, toMs))) {
      return { ms: lateSickMs, why: 'beside a call that cannot go on' }
    }
    return { ms: lateMs, why: 'no participant is sick' }
  }

  /** Whether a call stood at a meter that could not go on, or may have. */
  isShared({ id, sickMs }: { readonly id: string; readonly sickMs: number }, fromMs: number, toMs: number): boolean {
    return sickMs >= fromMs || (this.ghosts.get(id) ?? Number.POSITIVE_INFINITY) <= toMs
  }

  /**
   * The last fault for which a worker may have lost a job that BullMQ had handed to it, or never got it: its connection broke, or its lock ended. The job
   * is active until BullMQ finds it without a lock, and no worker runs it.
   */
  private lostHandover(handed: readonly HandedFact[], fromMs: number, toMs: number): FaultFact | undefined {
    let last: FaultFact | undefined
    for (const [index, { atMs, to }] of handed.entries()) {
      const untilMs = handed[index + 1]?.atMs ?? toMs
      if (atMs > toMs || untilMs < fromMs) continue
      for (const fault of this.history.faults) {
        if (!HOLDS.includes(fault.fault) || !concerns(fault, to) || fault.atMs > untilMs || goesOnUntilMs(fault) < atMs - this.bounds.stepMs) continue
        if (last === undefined || goesOnUntilMs(fault) > goesOnUntilMs(last)) last = fault
      }
    }
    return last
  }

  /** A fault that struck a worker of the queue while the call could start: the worker may have had its job. It holds at most one call in each place. */
  private holder(queue: string | undefined, fromMs: number, toMs: number): FaultFact | undefined {
    const { lateMs } = this.bounds
    for (const fault of this.history.faults) {
      if (!HOLDS.includes(fault.fault) || fault.atMs > toMs || goesOnUntilMs(fault) + lateMs < fromMs) continue
      const workers = this.history.workers.filter(
        (worker) => worker.state === 'up' && worker.queue === queue && (fault.process === undefined || worker.process === fault.process),
      )
      const most = workers.reduce((sum, { places }) => sum + places, 0)
      const held = this.held.get(fault) ?? 0
      if (held >= most) continue
      this.held.set(fault, held + 1)
      return fault
    }
    return undefined
  }
}
