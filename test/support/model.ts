import type { Call } from '../../src/index.js'
import { emptyState, type MeterState } from '../../src/limits/algorithm.js'
import { ALGORITHMS } from '../../src/limits/algorithms.js'
import type { CompiledLimit } from '../../src/limits/compiled-limit.js'
import { close, lower, raise } from '../../src/limits/lows.js'
import { COST_UNITS } from '../../src/model/cost.js'
import type { RuleSet } from '../../src/policy/compile.js'
import { declaredCosts } from './script-client.js'

interface Meter {
  readonly limit: CompiledLimit
  readonly state: MeterState
  atMs: number
  /** How many open calls were charged at `atMs`. */
  open: number
}

/** A change of one meter: a charge (at a start), an overrun, or a refund (negative). */
export interface MeterEvent {
  readonly atMs: number
  readonly amount: number
  readonly kind: 'start' | 'overrun' | 'refund'
  /** When its call was charged. */
  readonly chargedAtMs: number
}

/**
 * The reference model: the algorithms of the store in memory, one call after the other, with no
 * Redis, no packing and no batches. It keeps every event, so that a test can check bounds by
 * adding up charges instead of trusting an algorithm.
 */
export class Model {
  readonly meters = new Map<string, Meter>()
  readonly events = new Map<string, MeterEvent[]>()
  private readonly open = new Map<string, { call: Call; atMs: number }>()

  constructor(private readonly rules: RuleSet) {}

  /** The meter of every limit that covers the call, rolled to `nowMs`, and what the call costs there. */
  private met(call: Call, nowMs: number): { key: string; meter: Meter; cost: number }[] {
    const costs = declaredCosts(call)
    return this.rules.rules.flatMap((rule) => {
      const value = rule.scopeValue(call)
      if (value === null) return []
      return rule.limits.map((limit) => {
        const key = `${rule.name}/${limit.name}/${value}`
        const meter = this.meters.get(key) ?? { limit, atMs: nowMs, state: emptyState(), open: 0 }
        this.meters.set(key, meter)
        const { roll, leaks } = ALGORITHMS[limit.algorithm]
        roll(meter.state, limit, meter.atMs, nowMs)
        if (leaks && nowMs > meter.atMs) {
          lower(meter.state, limit, meter.atMs, meter.open)
          meter.open = 0
        }
        meter.atMs = nowMs
        const unit = COST_UNITS.find((one) => one === limit.unit)
        return { key, meter, cost: unit === undefined ? 1 : costs[unit] }
      })
    })
  }

  private note(key: string, event: MeterEvent): void {
    const events = this.events.get(key) ?? []
    events.push(event)
    this.events.set(key, events)
  }

  admit(id: string, call: Call, nowMs: number): { verdict: 'run' | 'limited' | 'too_big' | 'closed'; waitMs: number } {
    const met = this.met(call, nowMs)
    const big = met.find(({ meter, cost }) => cost > meter.limit.capacity)
    if (big !== undefined) return { verdict: big.meter.limit.capacity === 0 ? 'closed' : 'too_big', waitMs: -1 }
    const waits = met.map(({ meter, cost }) => (cost === 0 ? 0 : ALGORITHMS[meter.limit.algorithm].waitMs(meter.state, meter.limit, nowMs, cost, 0)))
    // The wait for a slot is only the latest time at which one comes free: the wait of another limit is reported where there is one.
    const knownMs = Math.max(0, ...waits.filter((_, index) => met[index]?.meter.limit.unit !== 'concurrency'))
    const waitMs = knownMs > 0 ? knownMs : Math.max(0, ...waits)
    if (waitMs > 0) return { verdict: 'limited', waitMs }
    for (const { key, meter, cost } of met) {
      if (cost > 0) ALGORITHMS[meter.limit.algorithm].charge(meter.state, meter.limit, cost, nowMs, id)
      if (meter.limit.estimated || meter.state.lows !== null) meter.open++
      this.note(key, { atMs: nowMs, amount: cost, kind: 'start', chargedAtMs: nowMs })
    }
    this.open.set(id, { call, atMs: nowMs })
    return { verdict: 'run', waitMs: 0 }
  }

  /** @param actual what the call used; 'nothing' releases the whole charge */
  settle(id: string, actual: { tokens?: number | undefined } | 'nothing', nowMs: number): boolean {
    const entry = this.open.get(id)
    if (entry === undefined) return false
    this.open.delete(id)
    for (const { key, meter, cost } of this.met(entry.call, nowMs)) {
      const { unit, algorithm } = meter.limit
      const { state, limit } = meter
      if (unit === 'concurrency') {
        ALGORITHMS[algorithm].refund(state, limit, 1, entry.atMs, nowMs, id)
        continue
      }
      const target = actual === 'nothing' ? 0 : unit === 'tokens' ? (actual.tokens ?? cost) : cost
      if (target > cost) {
        ALGORITHMS[algorithm].overrun(state, limit, target - cost, entry.atMs, nowMs, id)
        if (ALGORITHMS[algorithm].leaks) raise(state, limit, target - cost, entry.atMs, nowMs)
        this.note(key, { atMs: nowMs, amount: target - cost, kind: 'overrun', chargedAtMs: entry.atMs })
      } else if (target < cost && ALGORITHMS[algorithm].refund(state, limit, cost - target, entry.atMs, nowMs, id)) {
        this.note(key, { atMs: nowMs, amount: target - cost, kind: 'refund', chargedAtMs: entry.atMs })
      }
      if (cost > 0 && entry.atMs === nowMs) meter.open = Math.max(0, meter.open - 1)
      if (cost > 0 && entry.atMs < nowMs) close(state, entry.atMs)
    }
    return true
  }

  /** What is used of each limit that covers the call. */
  used(call: Call, nowMs: number): number[] {
    return this.met(call, nowMs).map(({ meter: { state } }) => state.used + state.debt)
  }
}
