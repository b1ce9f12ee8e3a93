import type { Call } from '../../src/index.js'
import { ALGORITHMS } from '../../src/meters/index.js'
import type { CompiledLimit, RuleSet } from '../../src/rules/compile.js'

interface Meter {
  readonly limit: CompiledLimit
  atMs: number
  used: number
  debt: number
  /** Ids of the calls that hold a slot, with the end of their lease. */
  readonly slots: Map<string, number>
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
    return this.rules.rules.flatMap((rule) => {
      const value = rule.scopeValue(call)
      if (value === null) return []
      return rule.limits.map((limit) => {
        const key = `${rule.name}/${limit.name}/${value}`
        const meter = this.meters.get(key) ?? { limit, atMs: nowMs, used: 0, debt: 0, slots: new Map<string, number>() }
        this.meters.set(key, meter)
        if (limit.unit === 'concurrency') {
          for (const [id, endMs] of meter.slots) if (endMs <= nowMs) meter.slots.delete(id)
          meter.used = meter.slots.size
        } else ALGORITHMS[limit.algorithm].roll(meter, limit, meter.atMs, nowMs)
        meter.atMs = nowMs
        const cost = limit.unit === 'tokens' ? (call.cost?.tokens ?? 0) : limit.unit === 'requests' ? (call.cost?.requests ?? 1) : 1
        return { key, meter, cost }
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
    const waits = met.map(({ meter, cost }) => {
      const wait = cost === 0 ? 0 : ALGORITHMS[meter.limit.algorithm].waitMs(meter, meter.limit, nowMs, cost)
      // A slot comes free at the latest when the first lease ends.
      return wait > 0 && meter.limit.unit === 'concurrency' ? Math.min(...meter.slots.values()) - nowMs : wait
    })
    // A time that is known says more than the latest at which a slot comes free.
    const knownMs = Math.max(0, ...waits.filter((_, index) => met[index]?.meter.limit.unit !== 'concurrency'))
    const waitMs = knownMs > 0 ? knownMs : Math.max(0, ...waits)
    if (waitMs > 0) return { verdict: 'limited', waitMs }
    for (const { key, meter, cost } of met) {
      if (meter.limit.unit === 'concurrency') meter.slots.set(id, nowMs + meter.limit.a)
      else meter.used += cost
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
      const { unit, algorithm, capacity } = meter.limit
      if (unit === 'concurrency') {
        meter.slots.delete(id)
        continue
      }
      const target = actual === 'nothing' ? 0 : unit === 'tokens' ? (actual.tokens ?? cost) : cost
      if (target > cost) {
        meter.used += target - cost
        if (meter.used > capacity) {
          meter.debt += meter.used - capacity
          meter.used = capacity
        }
        this.note(key, { atMs: nowMs, amount: target - cost, kind: 'overrun', chargedAtMs: entry.atMs })
      } else if (target < cost && ALGORITHMS[algorithm].refundable(meter.limit, entry.atMs, nowMs)) {
        const ofDebt = Math.min(meter.debt, cost - target)
        meter.debt -= ofDebt
        meter.used = Math.max(0, meter.used - (cost - target - ofDebt))
        this.note(key, { atMs: nowMs, amount: target - cost, kind: 'refund', chargedAtMs: entry.atMs })
      }
    }
    return true
  }

  /** What each limit that covers the call has in use. */
  used(call: Call, nowMs: number): number[] {
    return this.met(call, nowMs).map(({ meter }) => (meter.limit.unit === 'concurrency' ? meter.slots.size : meter.used + meter.debt))
  }
}
