import type { OwnAlgorithm } from './algorithms/custom.js'
import type { Lows } from './lows.js'

/**
 * An algorithm computes how much of a limit is used at a time. Each one is written twice to this contract: here for the store in memory, and in
 * `lua/lib/algorithms/` for Redis. A property test runs the same random sequences through both and compares every result.
 *
 * Amounts are in the limit's unit, times in ms since the epoch. States are changed in place.
 */
export interface Algorithm {
  /** Whether each limit has a Redis key of its own, besides that of its meter. */
  readonly keyed: boolean
  /** Whether scripts have to return the reset time, since it does not follow from `used` and `debt`. */
  readonly resetInReply: boolean
  /** Whether room comes back by the clock, however much a call gives back: what may go back of a charge is kept in `lows`, see `lows.ts`. */
  readonly leaks: boolean
  /** The tolerance for rounding errors of doubles when a sum is compared to the limit; always far below one unit. */
  slack(limit: MeterNumbers): number
  /** Advances a state from `fromMs` to `nowMs`; back where the clock was set back. */
  roll(state: MeterState, limit: MeterLimit, fromMs: number, nowMs: number): void
  /** Milliseconds until `cost` fits behind `ahead`, the amount reserved for calls that go first; 0 = now. */
  waitMs(state: MeterState, limit: MeterLimit, nowMs: number, cost: number, ahead: number): number
  /** @param holder the call that is charged, where the algorithm keeps charges apart (slots, sliding logs) */
  charge(state: MeterState, limit: MeterLimit, amount: number, nowMs: number, holder: string): void
  /** Charges without a check of room: an actual cost above its estimate. It counts from `atMs`, the time of the first charge, where that still counts; what exceeds the capacity is debt. */
  overrun(state: MeterState, limit: MeterLimit, amount: number, atMs: number, nowMs: number, holder: string): void
  /** Refunds a charge of `atMs`, where it still counts; `nowMs` is the time of the state. Returns whether anything was refunded. */
  refund(state: MeterState, limit: MeterLimit, amount: number, atMs: number, nowMs: number, holder: string): boolean
  /** Milliseconds until the state equals an empty one, if nothing else is charged. */
  resetMs(state: MeterState, limit: MeterLimit, nowMs: number): number
  /** The most that a call may cost now. */
  remaining(used: number, limit: MeterLimit): number
}

/** The live state of one limit for one scope value. */
export interface MeterState {
  /** The amount that is used now. */
  used: number
  /** The overrun beyond the capacity, of algorithms that keep it apart from `used`. */
  debt: number
  /** The charges of a sliding algorithm, as pairs of time (or cell) and amount; what `custom` keeps. Copies of a state share it until a charge or refund writes to it. */
  history: number[] | null
  /** How many numbers at the start of `history` have expired; the next write removes them. */
  gone: number
  /** Sliding log: the call of each pair of `history`; '' for an overrun. */
  holders: string[] | null
  /** Concurrency: the end of the lease of each slot, by the call that holds it. */
  slots: Map<string, number> | null
  /** Buckets: the rate by which it was refilled when something was counted last; 0: not known. See `slowerRate`. */
  rate: number
  /** Buckets: the least that was used since open calls were charged, see `lows.ts`. Replaced, never written to: copies share it. */
  lows: Lows | null
}

export function emptyState(): MeterState {
  return { used: 0, debt: 0, history: null, gone: 0, holders: null, slots: null, rate: 0, lows: null }
}

/** Copies a state; the copy shares history and slots. */
export function copyState(to: MeterState, from: MeterState): void {
  to.used = from.used
  to.debt = from.debt
  to.history = from.history
  to.gone = from.gone
  to.holders = from.holders
  to.slots = from.slots
  to.rate = from.rate
  to.lows = from.lows
}

/** The numbers of a limit that an algorithm needs. */
export interface MeterNumbers {
  /** The most that fits at once: the burst of a bucket, the limit of a window, the slots of a concurrency. */
  readonly capacity: number
  /** Buckets: the refill, in units per ms. */
  readonly rate: number
  /** The length of the window in ms; for a bucket the window that its rate was given by; 0 for slots. */
  readonly windowMs: number
  /** Fixed windows: the offset of their borders from the epoch, in ms. */
  readonly offsetMs: number
  /** Slots: how long one stays taken after its holder renewed it last, in ms. */
  readonly leaseMs: number
}

/** The base of a limit's numbers: 0 for each one that its algorithm does not use. */
export const NO_NUMBERS: MeterNumbers = Object.freeze({ capacity: 0, rate: 0, windowMs: 0, offsetMs: 0, leaseMs: 0 })

/** The numbers of a limit, as its algorithm gets them. */
export interface MeterLimit extends MeterNumbers {
  readonly slack: number
  /** Whether a call's cost is known only when it has ended: then nearly every settlement gives back, see `lows.ts`. */
  readonly estimated: boolean
  /** Fixed windows of a calendar: the borders around a time; see `bordersAround`. */
  readonly borders?: ((atMs: number) => readonly number[]) | undefined
  /** The algorithm of a user's own that counts it. */
  readonly own?: OwnAlgorithm | undefined
}

/** The capacity of a limit that has none for a call: more than all calls of a line can ever cost. */
export const NO_BOUND = 1e15

const RATE = new Float64Array(1)
const RATE_WORDS = new Uint32Array(RATE.buffer)

/** A rate as a packed meter keeps it: 13 bits after the first one. See `lua/lib/rule.lua`. */
function keptRate(rate: number): number {
  RATE[0] = rate
  RATE_WORDS[0] = 0
  RATE_WORDS[1] = (RATE_WORDS[1] as number) & ~0x7f
  return RATE[0]
}

/**
 * The rate by which a bucket was refilled since something was counted last, where its limit had another rate then. When that changed a meter does not
 * know: all of the time counts by the lower of the two.
 * @param then the rate at that time
 */
export function slowerRate(then: number, now: number): number {
  if (then === now || then === 0) return now
  const kept = keptRate(then)
  return kept === keptRate(now) ? now : Math.min(kept, now)
}

const MOST_SLACK = 0.001

/** The slack of buckets: the refill of a microsecond. */
export function slackOfRate({ rate }: MeterNumbers): number {
  return Math.min(MOST_SLACK, rate * 0.001)
}

/** The slack of windows: the rounding error of their sum. */
export function slackOfSum({ capacity }: MeterNumbers): number {
  return Math.min(MOST_SLACK, capacity * 1e-12)
}

/** Rounds a wait up to whole microseconds, and adds one: waiting for the exact time could end a rounding error too early. */
export function waitUp(ms: number): number {
  return (Math.ceil(ms * 1000) + 1) / 1000
}

/** Shared by the algorithms whose whole state is `used` and `debt`; the twin is `lua/lib/charge.lua`. */
export const counted = {
  keyed: false,
  resetInReply: false,
  leaks: false,
  charge(state: MeterState, _limit: MeterLimit, amount: number): void {
    state.used += amount
  },
  overrun(state: MeterState, { capacity }: MeterLimit, amount: number): void {
    const used = state.used + amount
    if (used > capacity) state.debt += used - capacity
    state.used = Math.min(used, capacity)
  },
  /** Reduces the debt first. */
  refund(state: MeterState, _limit: MeterLimit, amount: number): boolean {
    const repaid = Math.min(state.debt, amount)
    state.debt -= repaid
    state.used = Math.max(0, state.used - (amount - repaid))
    return true
  },
  remaining: (used: number, { capacity }: MeterLimit): number => Math.max(0, capacity - used),
} as const
