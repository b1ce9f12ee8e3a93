/**
 * An algorithm decides how much of a limit is used up as time goes by. Each is written
 * twice, once here and once in `lua/lib/algorithms/`, to one contract; the tests hold
 * the two against each other on the same sequences.
 */
export interface Algorithm {
  /** The number by which scripts know it. */
  readonly code: number
  /** Brings a state from the time `fromMs` to `nowMs`; gives back the same object, changed. */
  roll(state: MeterState, limit: MeterLimit, fromMs: number, nowMs: number): MeterState
  /** Milliseconds until `need` fits beside what is used; 0 = now. */
  waitMs(state: MeterState, limit: MeterLimit, nowMs: number, need: number): number
  /** Whether a charge made at `atMs` may still be given back. */
  refundable(limit: MeterLimit, atMs: number, nowMs: number): boolean
  /** Milliseconds until the state equals an empty one. */
  resetMs(state: MeterState, limit: MeterLimit, nowMs: number): number
}

/** The live state of one limit for one scope value; an absent one is all zeros. */
export interface MeterState {
  /** What is counted now, in the limit's unit. */
  used: number
  /** Overrun found at settlement, beyond the capacity; paid back before the next call starts. */
  debt: number
}

/** The numbers of a limit that an algorithm needs. */
export interface MeterLimit {
  /** What fits at once: the burst of a bucket, the limit of a window, the slots of a concurrency. */
  readonly capacity: number
  /** Token bucket: tokens per ms. Fixed window: its length in ms. Concurrency: the lease in ms. */
  readonly a: number
  /** Fixed window: the offset of its borders from the epoch in ms. */
  readonly b: number
}

/** Whole microseconds, rounded up, and one more: see `wait_up` in `lua/lib/algorithms/index.lua`. */
export function waitUp(ms: number): number {
  return (Math.ceil(ms * 1000) + 1) / 1000
}
