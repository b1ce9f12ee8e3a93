import { type AdmissionRequest, costIn, type MeterRef } from '../admission/request.js'
import type { MeterState } from '../limits/algorithm.js'
import { ALGORITHMS } from '../limits/algorithms.js'
import { type ActualCosts, COST_UNITS, type CostUnit } from '../model/cost.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import { MemoryStore } from '../store/memory/memory-store.js'
import { type Share, shareOfRule } from './share.js'

/** What a meter is to be charged: two amounts for each of its limits, see `lua/merge-usage.lua`. */
export interface MeterTaking {
  readonly part: MeterRef
  readonly amounts: readonly number[]
}

/** What a process has used while Redis was away, as Redis is to take it in. */
export interface Takings {
  readonly meters: readonly MeterTaking[]
  /** Let in, and not ended yet: they are to get entries. */
  readonly open: readonly OpenCall[]
}

export interface OpenCall {
  readonly request: AdmissionRequest
  /** Whether it goes on, and holds slots; else it was only recorded. */
  readonly runs: boolean
}

interface Met {
  readonly part: MeterRef
  readonly shared: MeterRef
  /** What was charged, by limit, less what went back; it does not fade. */
  readonly charged: number[]
}

/**
 * What a process has used while Redis was away. Each meter is counted by the limit's own
 * algorithm, so that what no window counts any more is not charged when Redis is back; a bucket
 * fills at this process's share of its rate, since Redis' own filled meanwhile, too.
 */
export class Books {
  private readonly now: () => number
  private readonly share: Share
  private readonly used: MemoryStore
  private readonly met = new Map<string, Met>()
  /** Let in, and not ended yet. */
  private readonly open = new Map<string, OpenCall>()
  private readonly shares = new Map<CompiledRule, CompiledRule>()

  constructor(now: () => number, share: Share) {
    this.now = now
    this.share = share
    this.used = new MemoryStore(now)
  }

  get empty(): boolean {
    return this.met.size === 0 && this.open.size === 0
  }

  get size(): number {
    return this.met.size
  }

  /** The call that is known by an id and goes on; undefined: none of this outage. */
  find(id: string): AdmissionRequest | undefined {
    return this.open.get(id)?.request
  }

  /** It was let in. @param runs whether it goes on, and holds slots */
  charge(request: AdmissionRequest, runs = true): void {
    const shared = this.shared(request)
    // What has room is charged under its name, by which a sliding log finds it when it goes back.
    if (this.used.admit(shared).decision.outcome === 'reject') this.used.record(shared)
    this.note(request, (limit) => costIn(request.costs, limit))
    if (request.forGood !== true) this.open.set(request.id, { request, runs })
  }

  /** It has ended, or has cost so much so far. */
  settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): void {
    const { costs } = request
    this.used.settle(this.shared(request), actual, how)
    const target = (unit: CostUnit) => (how === 'part' ? Math.max(costs[unit], actual[unit] ?? 0) : (actual[unit] ?? costs[unit]))
    this.note(request, (unit) => (unit === 'concurrency' ? 0 : target(unit) - costs[unit]))
    const known = this.open.get(request.id)
    if (how === 'end') this.open.delete(request.id)
    else if (known !== undefined) {
      const sum = Object.fromEntries(COST_UNITS.map((unit) => [unit, target(unit)])) as Record<CostUnit, number>
      this.open.set(request.id, { ...known, request: { ...request, costs: sum } })
    }
  }

  /** It was not made. */
  release(request: AdmissionRequest): void {
    this.used.release(this.shared(request))
    this.note(request, (unit) => -costIn(request.costs, unit))
    this.open.delete(request.id)
  }

  /** Redis has charged it after all, for good: it does not count here. */
  forget(request: AdmissionRequest, atMs: number): void {
    const nowMs = this.now()
    for (const part of this.shared(request).meters) {
      const meter = this.used.meter(part, nowMs)
      const states = meter.look(part.rule, nowMs)
      for (const [n, limit] of part.rule.limits.entries()) {
        if (limit.unit !== 'concurrency')
          ALGORITHMS[limit.algorithm].refund(states[n] as MeterState, limit, costIn(request.costs, limit.unit), atMs, meter.presentMs, request.id)
      }
      meter.keep()
    }
    this.note(request, (unit) => -costIn(request.costs, unit))
  }

  /** Closes the books: what Redis is to take in. Calls that go on are charged there one by one, and not with their meters. */
  close(): Takings {
    const open = [...this.open.values()]
    for (const { request } of open) this.release(request)
    const nowMs = this.now()
    const meters = [...this.met.values()].map(({ part, shared, charged }) => {
      const states = this.used.meter(shared, nowMs).look(shared.rule, nowMs)
      return { part, amounts: part.rule.limits.flatMap((limit, n) => this.owed(limit, states[n] as MeterState, charged[n] as number)) }
    })
    return { meters: meters.filter(({ amounts }) => amounts.some((amount) => amount > 0)), open }
  }

  /**
   * What counts of a limit for certain, and what may: of a bucket as much more as was charged, up
   * to its burst. Both Redis' bucket and this one have filled at the same time, which is one time too often.
   */
  private owed({ algorithm, unit, capacity }: CompiledRule['limits'][number], { used, debt }: MeterState, charged: number): [number, number] {
    if (unit === 'concurrency') return [0, 0]
    const sure = used + debt
    const bucket = algorithm === 'token_bucket' || algorithm === 'leaky_bucket'
    return [sure, bucket ? Math.max(0, Math.min(charged, capacity) - sure) : 0]
  }

  private note(request: AdmissionRequest, amountIn: (unit: CompiledRule['limits'][number]['unit']) => number): void {
    for (const part of request.meters) {
      const key = `${part.rule.name}/${part.value}`
      let met = this.met.get(key)
      if (met === undefined) {
        met = { part, shared: this.sharedPart(part), charged: part.rule.limits.map(() => 0) }
        this.met.set(key, met)
      }
      // What an override lifts was not charged.
      for (const [n, { unit }] of part.rule.limits.slice(0, part.rule.active).entries()) if (met.charged[n] !== undefined) met.charged[n] += amountIn(unit)
    }
  }

  private shared(request: AdmissionRequest): AdmissionRequest {
    return { ...request, meters: request.meters.map((part) => this.sharedPart(part)) }
  }

  private sharedPart({ rule, value }: MeterRef): MeterRef {
    let shared = this.shares.get(rule)
    if (shared === undefined) {
      shared = shareOfRule(rule, this.share)
      this.shares.set(rule, shared)
    }
    return { rule: shared, value, keys: [], line: '' }
  }
}
