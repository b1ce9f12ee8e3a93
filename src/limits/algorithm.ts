/**
 * An algorithm decides how much of a limit is used up as time goes by. Each is written
 * twice, once here (for the store in memory) and once in `lua/lib/algorithms/`, to one
 * contract; the tests hold the two against each other on the same sequences.
 *
 * Amounts are in the limit's unit, times in ms since the epoch. States are changed in place.
 */
export interface Algorithm {
  /** Whether a limit of it has a key of its own in Redis, besides its meter's. */
  readonly keyed: boolean
  /** Whether scripts tell how long until nothing is used, since `used` and `debt` do not. */
  readonly tellsReset: boolean
  /** How far a sum may be beside a limit by the last bits of a double; never a whole unit. */
  slack(limit: MeterNumbers): number
  /** Brings a state from the time `fromMs` to `nowMs`. */
  roll(state: MeterState, limit: MeterLimit, fromMs: number, nowMs: number): void
  /** Milliseconds until `cost` fits, after `ahead` that others have a right to first; 0 = now. */
  waitMs(state: MeterState, limit: MeterLimit, nowMs: number, cost: number, ahead: number): number
  /** @param holder who is charged, where a slot is held */
  charge(state: MeterState, limit: MeterLimit, amount: number, nowMs: number, holder: string): void
  /** Charges whether there is room or not, beside what `holder` was charged at `atMs` where that counts still; beyond the capacity it is debt. */
  overrun(state: MeterState, limit: MeterLimit, amount: number, atMs: number, nowMs: number, holder: string): void
  /** Gives back what was charged at `atMs`, if that still counts; returns whether anything came back. */
  refund(state: MeterState, limit: MeterLimit, amount: number, atMs: number, nowMs: number, holder: string): boolean
  /** Milliseconds until the state equals an empty one. */
  resetMs(state: MeterState, limit: MeterLimit, nowMs: number): number
  /** What a call may cost now. */
  remaining(used: number, limit: MeterLimit): number
}

/** The live state of one limit for one scope value. */
export interface MeterState {
  /** What is counted now. */
  used: number
  /** Overrun found at settlement, beyond the capacity, where it is kept apart. */
  debt: number
  /** What a sliding algorithm remembers, as pairs. A state and what it is brought to share it: only a change writes to it. */
  history: number[] | null
  /** How many numbers of the history have run out: they go with the next change. */
  gone: number
  /** Of a sliding log: whose charge each pair is; '' = nobody's, an overrun. */
  holders: string[] | null
  /** The slots of a concurrency: who holds them, and when their leases end. */
  slots: Map<string, number> | null
}

/** A state of nothing. */
export function emptyState(): MeterState {
  return { used: 0, debt: 0, history: null, gone: 0, holders: null, slots: null }
}

/** Makes a state the same as another, sharing its history. */
export function copyState(to: MeterState, from: MeterState): void {
  to.used = from.used
  to.debt = from.debt
  to.history = from.history
  to.gone = from.gone
  to.holders = from.holders
  to.slots = from.slots
}

/** The numbers of a limit that an algorithm needs. */
export interface MeterNumbers {
  /** What fits at once: the burst of a bucket, the limit of a window, the slots of a concurrency. */
  readonly capacity: number
  /** Buckets: what comes back, in units per ms. */
  readonly rate: number
  /** The length of the window in ms, also of the one by which the rate of a bucket was given; 0 for slots. */
  readonly windowMs: number
  /** Fixed windows: the offset of their borders from the epoch in ms. */
  readonly offsetMs: number
  /** Slots: how long one outlives the last sign of life of its holder, in ms. */
  readonly leaseMs: number
}

/** All numbers that an algorithm does not use. */
export const NO_NUMBERS: MeterNumbers = Object.freeze({ capacity: 0, rate: 0, windowMs: 0, offsetMs: 0, leaseMs: 0 })

export interface MeterLimit extends MeterNumbers {
  readonly slack: number
  /** Fixed windows of a calendar: the borders around a time. */
  readonly borders?: ((atMs: number) => readonly number[]) | undefined
}

const MOST_SLACK = 0.001

/** Buckets: what comes back within a microsecond. */
export function slackOfRate({ rate }: MeterNumbers): number {
  return Math.min(MOST_SLACK, rate * 0.001)
}

export function slackOfSum({ capacity }: MeterNumbers): number {
  return Math.min(MOST_SLACK, capacity * 1e-12)
}

/** Whole microseconds, rounded up, and one more: see `wait_up` in `lua/lib/algorithms/index.lua`. */
export function waitUp(ms: number): number {
  return (Math.ceil(ms * 1000) + 1) / 1000
}

/** The parts that algorithms share which count in `used` and `debt` alone; see `lua/lib/charge.lua`. */
export const counted = {
  keyed: false,
  tellsReset: false,
  charge(state: MeterState, _limit: MeterLimit, amount: number): void {
    state.used += amount
  },
  overrun(state: MeterState, { capacity }: MeterLimit, amount: number): void {
    const used = state.used + amount
    if (used > capacity) state.debt += used - capacity
    state.used = Math.min(used, capacity)
  },
  /** Debt goes first. */
  refund(state: MeterState, _limit: MeterLimit, amount: number): boolean {
    const ofDebt = Math.min(state.debt, amount)
    state.debt -= ofDebt
    state.used = Math.max(0, state.used - (amount - ofDebt))
    return true
  },
  remaining: (used: number, { capacity }: MeterLimit): number => Math.max(0, capacity - used),
} as const
