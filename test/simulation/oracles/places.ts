import type { History } from './history.js'

/** The places of the workers of each queue: how many are free, as far as runs tell. A worker also holds calls that have not started. */
export class PlacesOverTime {
  private readonly steps = new Map<string, { readonly atMs: number; readonly free: number }[]>()

  constructor(history: History) {
    const changes = new Map<string, { atMs: number; by: number }[]>()
    const change = (queue: string, atMs: number, by: number) => {
      const list = changes.get(queue) ?? []
      changes.set(queue, list)
      list.push({ atMs, by })
    }
    const queueOf = new Map<string, string>()
    for (const { process, queue, state, places, atMs } of history.workers) {
      queueOf.set(process, queue)
      change(queue, atMs, state === 'up' ? places : -places)
    }
    for (const { started, ended, diedMs } of history.runs) {
      const queue = queueOf.get(started.by)
      if (queue === undefined) continue
      change(queue, started.atMs, -1)
      const endMs = ended?.atMs ?? diedMs
      if (endMs !== undefined) change(queue, endMs, 1)
    }
    for (const [queue, list] of changes) {
      let free = 0
      const steps = list
        .sort((a, b) => a.atMs - b.atMs)
        .map(({ atMs, by }) => {
          free += by
          return { atMs, free }
        })
      this.steps.set(queue, steps)
    }
  }

  /** Whether all places were taken at some time between two. */
  wereFull(queue: string, fromMs: number, toMs: number): boolean {
    let free = 0
    for (const step of this.steps.get(queue) ?? []) {
      if (step.atMs > toMs) break
      if (step.atMs > fromMs && free <= 0) return true
      free = step.free
    }
    return free <= 0
  }
}
