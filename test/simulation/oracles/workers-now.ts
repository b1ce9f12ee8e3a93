import { chargeMs, concerns, type History, type Run } from './history.js'

interface Worker {
  readonly process: string
  readonly queue: string
  readonly places: number
  readonly fromMs: number
  toMs: number
  readonly starts: number[]
  readonly ends: number[]
}

/** A worker that is handed a call holds it for so long at most until it has room. */
const HELD_AT_MOST_MS = 500

/** Which workers take calls of a queue at a time, and how many more. Asked for times that ascend. */
export class WorkersNow {
  private readonly workers: Worker[] = []
  private readonly queues: { readonly queue: string; readonly atMs: number; readonly paused: boolean }[]
  private readonly running = new Map<Worker, { starts: number; ends: number }>()
  /** By call, when it was handed to a worker. */
  private readonly handed = new Map<string, { readonly to: string; readonly atMs: number }[]>()

  constructor(private readonly history: History) {
    this.queues = history.queues.map(({ queue, atMs, state }) => ({ queue, atMs, paused: state === 'paused' }))
    for (const fact of history.facts) {
      if (fact.fact !== 'handed') continue
      const times = this.handed.get(fact.call)
      if (times === undefined) this.handed.set(fact.call, [fact])
      else times.push(fact)
    }
    for (const { process, queue, state, places, atMs } of history.workers) {
      const up = this.workers.findLast((worker) => worker.process === process)
      if (state === 'gone' && up !== undefined) up.toMs = Math.min(up.toMs, atMs)
      if (state === 'up') this.workers.push({ process, queue, places, fromMs: atMs, toMs: history.diedMs(process), starts: [], ends: [] })
    }
  }

  /** A run takes a place from when its worker was handed it. */
  note(run: Run): void {
    const worker = this.workers.findLast(({ process, fromMs }) => process === run.started.by && fromMs <= run.started.atMs)
    if (worker === undefined) return
    const chargedMs = chargeMs(run)
    const handed = this.handed.get(run.story.id)?.findLast(({ to, atMs }) => to === worker.process && atMs <= chargedMs && atMs >= chargedMs - HELD_AT_MOST_MS)
    worker.starts.push(handed?.atMs ?? chargedMs)
    worker.ends.push(run.ended?.atMs ?? run.diedMs ?? Number.POSITIVE_INFINITY)
  }

  /** All runs are noted. */
  ready(): void {
    for (const { starts, ends } of this.workers) for (const times of [starts, ends]) times.sort((a, b) => a - b)
  }

  /** When workers come and go, and queues stop and go on. */
  times(): number[] {
    return [...this.workers.flatMap(({ fromMs, toMs }) => [fromMs, toMs]), ...this.queues.map(({ atMs }) => atMs)]
  }

  isStopped(process: string, atMs: number): boolean {
    return this.history.faults.some((fault) => fault.fault === 'stop' && concerns(fault, process) && fault.atMs <= atMs && atMs < fault.untilMs)
  }

  isWorked(queue: string, atMs: number): boolean {
    if (this.queues.findLast((one) => one.queue === queue && one.atMs <= atMs)?.paused === true) return false
    return this.workers.some((worker) => worker.queue === queue && this.takesCalls(worker, atMs))
  }

  free(queue: string, atMs: number): number {
    let free = 0
    for (const worker of this.workers)
      if (worker.queue === queue && this.takesCalls(worker, atMs)) free += Math.max(0, worker.places - this.runningOf(worker, atMs))
    return free
  }

  private takesCalls({ process, fromMs, toMs }: Worker, atMs: number): boolean {
    return fromMs <= atMs && atMs < toMs && !this.isStopped(process, atMs)
  }

  private runningOf(worker: Worker, atMs: number): number {
    const at = this.running.get(worker) ?? { starts: 0, ends: 0 }
    this.running.set(worker, at)
    while (at.starts < worker.starts.length && (worker.starts[at.starts] as number) <= atMs) at.starts++
    while (at.ends < worker.ends.length && (worker.ends[at.ends] as number) <= atMs) at.ends++
    return at.starts - at.ends
  }
}
