import type { Call } from '../../src/index.js'
import { emptyState, type MeterState } from '../../src/limits/algorithm.js'
import { ALGORITHMS } from '../../src/limits/algorithms.js'
import type { CompiledLimit } from '../../src/limits/compiled-limit.js'
import { COST_UNITS } from '../../src/model/cost.js'
import type { RuleSet } from '../../src/policy/compile.js'
import { saidCosts } from './gate.js'

interface Meter {
  readonly limit: CompiledLimit
  readonly state: MeterState
  atMs: number
}

/** What happened at one meter: a charge (at a start), an overrun, or a refund (negative). */
export interface MeterEvent {
  readonly atMs: number
  readonly amount: number
  readonly kind: 'start' | 'overrun' | 'refund'
  /** When the call that it belongs to was charged. */
  readonly chargedAtMs: number
}

/**
 * The reference: a few lines of ordinary code that do one thing after the other, with no
 * Redis, no packing and no batches. It keeps every event, so bounds can be checked by
 * adding up instead of by trusting any algorithm.
 */
export class Model {
  readonly meters = new Map<string, Meter>()
  readonly events = new Map<string, MeterEvent[]>()
  private readonly open = new Map<string, { call: Call; atMs: number }>()
  private readonly rules: RuleSet

  constructor(rules: RuleSet) {
    this.rules = rules
  }

  /** Every limit the call meets, brought to now. */
  private met(call: Call, nowMs: number): { key: string; meter: Meter; cost: number }[] {
    const costs = saidCosts(call)
    return this.rules.rules.flatMap((rule) => {
      const value = rule.scopeValue(call)
      if (value === null) return []
      return rule.limits.map((limit) => {
        const key = `${rule.name}/${limit.name}/${value}`
        const meter = this.meters.get(key) ?? { limit, atMs: nowMs, state: emptyState() }
        this.meters.set(key, meter)
        ALGORITHMS[limit.algorithm].roll(meter.state, limit, meter.atMs, nowMs)
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
    // A time that is known says more than the latest at which a slot comes free.
    const knownMs = Math.max(0, ...waits.filter((_, index) => met[index]?.meter.limit.unit !== 'concurrency'))
    const waitMs = knownMs > 0 ? knownMs : Math.max(0, ...waits)
    if (waitMs > 0) return { verdict: 'limited', waitMs }
    for (const { key, meter, cost } of met) {
      if (cost > 0) ALGORITHMS[meter.limit.algorithm].charge(meter.state, meter.limit, cost, nowMs, id)
      this.note(key, { atMs: nowMs, amount: cost, kind: 'start', chargedAtMs: nowMs })
    }
    this.open.set(id, { call, atMs: nowMs })
    return { verdict: 'run', waitMs: 0 }
  }

  /** @param actual what it really cost; 'nothing' gives everything back */
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
        this.note(key, { atMs: nowMs, amount: target - cost, kind: 'overrun', chargedAtMs: entry.atMs })
      } else if (target < cost && ALGORITHMS[algorithm].refund(state, limit, cost - target, entry.atMs, nowMs, id)) {
        this.note(key, { atMs: nowMs, amount: target - cost, kind: 'refund', chargedAtMs: entry.atMs })
      }
    }
    return true
  }

  /** What each limit that covers the call has in use. */
  used(call: Call, nowMs: number): number[] {
    return this.met(call, nowMs).map(({ meter: { state } }) => state.used + state.debt)
  }
}
