import { copyState, emptyState, type MeterState } from '../../limits/algorithm.js'
import { ALGORITHMS, keepsLows } from '../../limits/algorithms.js'
import type { CompiledLimit } from '../../limits/compiled-limit.js'
import { lower } from '../../limits/lows.js'
import type { Costs, CostUnit } from '../../model/cost.js'
import { DEFAULTS } from '../../model/defaults.js'
import type { CompiledRule } from '../../policy/compiled-rule.js'

export interface MemoryEntry {
  /** Of the request that opened it. */
  readonly token: string
  readonly atMs: number
  /** The units that the rules counted when it was charged. */
  readonly counted: readonly CostUnit[]
  charged: Costs
}

/** After a day a call is not settled any more: its charge stands. */
export function hasExpired({ atMs }: MemoryEntry, nowMs: number): boolean {
  return atMs + DEFAULTS.ledgerMs <= nowMs
}

/** Before anything was counted. */
const NEVER = Number.NaN

/**
 * The states of a rule's limits for one scope value. As in Redis, a look changes nothing, not even the time that the states were
 * brought to: if the clock is set back later, they are as they were when something was last counted.
 */
export class MemoryMeter {
  private states: MeterState[]
  private atMs = NEVER
  /** How many open calls were charged at `atMs`. Those of before are counted in `lows`. */
  private open = 0
  /** Slots are kept beside the states: they end by the clock as it is, whatever is counted. */
  private readonly slots = new Map<string, number>()
  private lookedRule: CompiledRule | null = null
  private spare: MeterState[] = []
  /** What was looked at last: the spare states, or once these are kept the states themselves. */
  private looked: MeterState[] = []
  private lookedNowMs = NEVER
  private lookedAtMs = NEVER
  private lookedOpen = 0
  /** Whether a bucket that was looked at had another rate when something was counted there last. */
  private lookedChanged = false
  /** Whether any limit that was looked at is a bucket that keeps lows from the start. */
  private lookedCounts = false

  constructor(private rule: CompiledRule) {
    this.states = this.empty(rule)
  }

  /** The states in the order of the rule's limits, brought to now; what is done to them counts once it is kept. */
  look(rule: CompiledRule, nowMs: number): readonly MeterState[] {
    if (rule === this.lookedRule && nowMs === this.lookedNowMs) return this.looked
    this.copy(rule)
    const fromMs = Number.isNaN(this.atMs) ? nowMs : this.atMs
    const setBack = fromMs > nowMs + DEFAULTS.clockStepMs
    const { limits } = rule
    this.lookedCounts = false
    this.lookedChanged = false
    for (let n = 0; n < limits.length; n++) {
      const limit = limits[n] as CompiledLimit
      const state = this.looked[n] as MeterState
      const { roll, leaks } = ALGORITHMS[limit.algorithm]
      // Histories move along with a clock that was set back.
      if (limit.unit === 'concurrency' || fromMs < nowMs || (setBack && state.history !== null)) roll(state, limit, fromMs, nowMs)
      if (!leaks || state.used + state.debt === 0) state.rate = leaks ? limit.rate : 0
      else if (state.rate !== limit.rate) this.lookedChanged = true
      // Calls that start while an override lifts the limit are not charged there.
      if (!leaks || n >= rule.active) state.lows = null
      else if (fromMs < nowMs) lower(state, limit, fromMs, this.open)
      // Times of before cannot be told from those that come again.
      else if (setBack) state.lows = null
      if (keepsLows(limit)) this.lookedCounts = true
    }
    this.lookedOpen = fromMs < nowMs || setBack ? 0 : this.open
    this.lookedRule = rule
    this.lookedNowMs = nowMs
    this.lookedAtMs = fromMs < nowMs || setBack ? nowMs : fromMs
    return this.looked
  }

  /** The time of the states as they were last looked at: that of a clock set back by less than a step stands still. */
  get presentMs(): number {
    return this.lookedAtMs
  }

  /** A call that may give back was charged at the states that were looked at last. */
  opened(): void {
    if (this.lookedCounts || this.looked.some(({ lows }) => lows !== null)) this.lookedOpen++
  }

  /** A call that was charged at the time of the states has ended. Returns whether it was counted. */
  closed(): boolean {
    if (this.lookedOpen === 0) return false
    this.lookedOpen--
    return true
  }

  /** From now on buckets are refilled by their rates of today: a call is decided on under these. One that ends may have been charged under rules of before. */
  adoptRates(): void {
    if (!this.lookedChanged || this.lookedRule === null) return
    for (const [n, { algorithm, rate }] of this.lookedRule.limits.entries()) {
      if (ALGORITHMS[algorithm].leaks) (this.looked[n] as MeterState).rate = rate
    }
    this.lookedChanged = false
    this.keep()
  }

  /** Takes a clock that was set back by more than a step as it is, whatever is counted. */
  follow(rule: CompiledRule, nowMs: number): void {
    if (this.atMs <= nowMs + DEFAULTS.clockStepMs || Number.isNaN(this.atMs)) return
    this.look(rule, nowMs)
    this.keep()
  }

  /** What was done to the states as they were last looked at counts from now on. */
  keep(): void {
    if (this.lookedRule === null) return
    if (this.looked !== this.states) {
      this.spare = this.states
      this.states = this.looked
      this.rule = this.lookedRule
    }
    this.atMs = this.holds() ? this.lookedAtMs : NEVER
    this.open = this.lookedOpen
    // A meter that holds nothing has no time, so the next look begins anew.
    if (Number.isNaN(this.atMs)) {
      this.lookedRule = null
      this.open = 0
      for (const state of this.states) state.lows = null
    }
  }

  /** Whether nothing is used any more. */
  idle(nowMs: number): boolean {
    const states = this.look(this.rule, nowMs)
    return this.rule.limits.every((limit, n) => ALGORITHMS[limit.algorithm].resetMs(states[n] as MeterState, limit, nowMs) <= 0)
  }

  /** A limit that was changed keeps its usage, found by its id. */
  private copy(rule: CompiledRule): void {
    if (rule !== this.rule || this.spare.length !== rule.limits.length) this.spare = this.empty(rule)
    this.looked = this.spare
    for (let n = 0; n < rule.limits.length; n++) {
      const place = rule === this.rule ? n : this.rule.limits.findIndex(({ id }) => id === rule.limits[n]?.id)
      const known = this.states[place]
      if (known !== undefined) copyState(this.looked[n] as MeterState, known)
    }
  }

  private holds(): boolean {
    const { limits } = this.rule
    for (let n = 0; n < limits.length; n++) {
      const { used, debt } = this.states[n] as MeterState
      if ((used > 0 || debt > 0) && limits[n]?.unit !== 'concurrency') return true
    }
    return false
  }

  private empty({ limits }: CompiledRule): MeterState[] {
    return limits.map(({ unit }) => (unit === 'concurrency' ? { ...emptyState(), slots: this.slots } : emptyState()))
  }
}
