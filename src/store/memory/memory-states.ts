import type { StateResult } from '../store.js'

/** States are swept when there are so many of them, and again when twice as many are left. */
const SWEEP_FROM = 1000

/** The states of algorithms of a user's own, which have no meters. */
export class MemoryStates {
  private readonly states = new Map<string, { state: string; untilMs: number }>()
  private sweepAt = SWEEP_FROM

  get size(): number {
    return this.states.size
  }

  /** Compare and set: see `Store`. */
  compareAndSet(id: string, was: string, becomes: string, keepMs: number, nowMs: number): StateResult {
    const found = this.states.get(id)
    const state = found === undefined || found.untilMs <= nowMs ? '' : found.state
    if (becomes === '' || state !== was) return { nowMs, written: false, state }
    if (!this.states.has(id) && this.states.size >= this.sweepAt) this.sweep(nowMs)
    this.states.set(id, { state: becomes, untilMs: nowMs + keepMs })
    return { nowMs, written: true, state: becomes }
  }

  /** Forgets those that have ended. Each was paid for when it came: this takes constant time a state. */
  private sweep(nowMs: number): void {
    for (const [id, { untilMs }] of this.states) if (untilMs <= nowMs) this.states.delete(id)
    this.sweepAt = Math.max(SWEEP_FROM, 2 * this.states.size)
  }
}
