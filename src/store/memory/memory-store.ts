import { idTaken } from '../../admission/identity.js'
import { type AdmissionRequest, bindingOf, costIn, gateBinding, type MeterRef, usageOf } from '../../admission/request.js'
import { type MeterState, waitUp } from '../../limits/algorithm.js'
import { ALGORITHMS } from '../../limits/algorithms.js'
import type { CompiledLimit } from '../../limits/compiled-limit.js'
import { close, raise } from '../../limits/lows.js'
import { type ActualCosts, type CostUnit, NOTHING } from '../../model/cost.js'
import type { Binding, RejectDecision, RunDecision, Usage } from '../../model/decision.js'
import { DEFAULTS } from '../../model/defaults.js'
import type { Observation, UpstreamOutcome, UpstreamReport, UpstreamStatus } from '../../model/upstream.js'
import { type Admission, type LedgerFigures, overEstimatedPercent, type StateResult, type Store } from '../store.js'
import { hasExpired, type MemoryEntry, MemoryMeter } from './memory-meter.js'
import { MemoryUpstream } from './memory-upstream.js'
import { SWEEP_FROM, SweptMap } from './swept-map.js'

interface Refusal {
  readonly binding: Binding
  readonly reason: 'limited' | 'paused' | 'closed' | 'too_big'
  readonly waitMs: number
  /** Whether the call waits for a slot: when it comes free is not known. */
  readonly leased: boolean
}

/** Of two refusals the one that lasts longer; any time that is known says more than that of a slot. */
function later(one: Refusal | null, other: Refusal): Refusal {
  return one === null || (!other.leased && (one.leased || other.waitMs > one.waitMs)) ? other : one
}

function blockedValue({ meters }: AdmissionRequest): string {
  return meters.findLast(({ rule }) => rule.kind === 'upstream')?.value ?? ''
}

/**
 * Meters in this process's memory. The store decides as the one in Redis does: the same algorithms, the same order, the same answers.
 * It has no lines: a call without room is refused.
 */
export class MemoryStore implements Store {
  private readonly upstream = new MemoryUpstream()
  private readonly meters = new Map<string, Map<string, MemoryMeter>>()
  private readonly entries = new Map<string, MemoryEntry>()
  /** The states of algorithms of a user's own, which have no meters. */
  private readonly states = new SweptMap<{ readonly state: string; readonly untilMs: number }>(({ untilMs }, nowMs) => untilMs <= nowMs)
  private readonly counts = { settled: 0, released: 0, expired: 0, estimated: 0, actual: 0 }
  private latestMs = 0
  private names = 0
  private kept = 0
  private sweepAt = SWEEP_FROM

  /** @param now the clock, in ms since the epoch */
  constructor(private readonly now: () => number = Date.now) {}

  admit(request: AdmissionRequest): Admission {
    const nowMs = this.timeOf(request)
    const named = this.name(request)
    if (this.entryOf(named, nowMs) !== undefined) return { request: named, decision: this.run(named, nowMs) }
    const refusal = this.weigh(named, nowMs, true)
    if (refusal !== null) return { request: named, decision: this.reject(named, refusal, nowMs) }
    this.charge(named, nowMs, false)
    return { request: named, decision: this.run(named, nowMs) }
  }

  peek(request: AdmissionRequest): RunDecision | RejectDecision {
    const nowMs = this.now()
    if (request.call.id !== undefined) this.entryOf(request, nowMs)
    const refusal = this.weigh(request, nowMs)
    return refusal === null ? this.run(request, nowMs) : this.reject(request, refusal, nowMs)
  }

  record(request: AdmissionRequest): Admission {
    const nowMs = this.timeOf(request)
    const named = this.name(request)
    if (this.entryOf(named, nowMs) === undefined) this.charge(named, nowMs, true)
    return { request: named, decision: this.run(named, nowMs) }
  }

  settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): boolean {
    const nowMs = this.timeOf(request)
    const entry = this.entryOf(request, nowMs)
    if (entry === undefined) return false
    const raised = this.chargeActual(request, entry, actual, how, nowMs)
    if (how === 'part') {
      // A unit that no current limit counts was not charged by this: the entry keeps what was charged.
      entry.charged = { ...entry.charged, ...Object.fromEntries([...raised].map((unit) => [unit, actual[unit]])) }
      return true
    }
    this.entries.delete(request.id)
    this.counts.settled++
    // Without a figure of the actual tokens the estimate is neither right nor wrong.
    if (entry.counted.includes('tokens') && actual.tokens !== undefined) {
      this.counts.estimated += entry.charged.tokens
      this.counts.actual += actual.tokens
    }
    return true
  }

  release(request: AdmissionRequest): boolean {
    const nowMs = this.timeOf(request)
    const entry = this.entryOf(request, nowMs)
    if (entry === undefined) return false
    this.chargeActual(request, entry, NOTHING, 'end', nowMs)
    this.entries.delete(request.id)
    this.counts.released++
    return true
  }

  reportUpstream(request: AdmissionRequest, report: UpstreamReport): UpstreamOutcome {
    const nowMs = this.timeOf(request)
    if (this.openEntry(request, nowMs)?.token === request.token) this.release(request)
    return this.upstream.report(blockedValue(request), report, nowMs)
  }

  upstreamStatus(requests: readonly AdmissionRequest[]): readonly UpstreamStatus[] {
    const nowMs = this.now()
    return requests.map((request) => this.upstream.status(blockedValue(request), nowMs))
  }

  observations(): readonly Observation[] {
    return this.upstream.observed()
  }

  reset(request: AdmissionRequest): void {
    for (const { rule, value } of request.meters) {
      if (rule.kind === 'upstream') this.upstream.lift(value)
      else if (this.meters.get(rule.name)?.delete(value) === true) this.kept--
    }
  }

  compareAndSet(name: string, key: string, was: string, becomes: string, keepMs: number): StateResult {
    const nowMs = this.now()
    const id = `${name}/${key}`
    const found = this.states.get(id)
    const state = found === undefined || found.untilMs <= nowMs ? '' : found.state
    if (becomes === '' || state !== was) return { nowMs, written: false, state }
    this.states.put(id, { state: becomes, untilMs: nowMs + keepMs }, nowMs)
    return { nowMs, written: true, state: becomes }
  }

  figures(): LedgerFigures {
    this.expire(this.now())
    const { settled, released, expired, estimated, actual } = this.counts
    return { open: this.entries.size, settled, released, expired, overEstimatedPercent: overEstimatedPercent(estimated, actual) }
  }

  /** How many meters and states are held now; those that count nothing any more go as others come. */
  get size(): number {
    return this.kept + this.states.size
  }

  /** Now; the meters that are asked for follow a clock that was set back. */
  private timeOf({ meters }: AdmissionRequest): number {
    const nowMs = this.now()
    if (nowMs >= this.latestMs) this.latestMs = nowMs
    else if (nowMs + DEFAULTS.clockStepMs < this.latestMs) {
      for (const meter of meters) {
        if (meter.rule.kind === 'upstream') this.upstream.follow(meter.value, nowMs)
        else this.meter(meter, nowMs).follow(meter.rule, nowMs)
      }
    }
    return nowMs
  }

  /** The open entry of a call. @throws ID_TAKEN where that under its id is another call's */
  private entryOf(request: AdmissionRequest, nowMs: number): MemoryEntry | undefined {
    const entry = this.openEntry(request, nowMs)
    if (entry !== undefined && entry.token !== request.token) throw idTaken(request.call.id ?? request.id)
    return entry
  }

  /** The open entry under the id of a call. Those of more than a day ago are not open any more. */
  private openEntry({ id, forGood }: AdmissionRequest, nowMs: number): MemoryEntry | undefined {
    this.expire(nowMs)
    const entry = forGood === true ? undefined : this.entries.get(id)
    return entry === undefined || hasExpired(entry, nowMs) ? undefined : entry
  }

  private name(request: AdmissionRequest): AdmissionRequest {
    return request.call.id !== undefined || request.forGood === true ? request : { ...request, id: `~${++this.names}` }
  }

  meter({ rule, value }: Pick<MeterRef, 'rule' | 'value'>, nowMs: number): MemoryMeter {
    let meters = this.meters.get(rule.name)
    if (meters === undefined) {
      meters = new Map()
      this.meters.set(rule.name, meters)
    }
    let meter = meters.get(value)
    if (meter === undefined) {
      if (this.kept >= this.sweepAt) this.sweep(nowMs)
      meter = new MemoryMeter(rule)
      meters.set(value, meter)
      this.kept++
    }
    return meter
  }

  /** Changes what every meter was charged to what the call has cost; returns the units in which it was charged more. See `charge_actual` in `lua/lib/settlement.lua`. */
  chargeActual(request: AdmissionRequest, entry: MemoryEntry, actual: ActualCosts, how: 'end' | 'part', nowMs: number): ReadonlySet<CostUnit> {
    const { atMs, charged, counted } = entry
    const raised = new Set<CostUnit>()
    for (const part of request.meters) {
      const meter = this.meter(part, nowMs)
      const states = meter.look(part.rule, nowMs)
      const { presentMs } = meter
      let changed = false
      let closes = false
      for (const [n, limit] of part.rule.limits.entries()) {
        const algorithm = ALGORITHMS[limit.algorithm]
        const state = states[n] as MeterState
        if (limit.unit === 'concurrency') {
          if (how === 'end') algorithm.refund(state, limit, 1, atMs, nowMs, request.id)
        } else if (n < part.rule.active && counted.includes(limit.unit)) {
          const more = (actual[limit.unit] ?? charged[limit.unit]) - charged[limit.unit]
          if (more > 0) {
            algorithm.overrun(state, limit, more, atMs, presentMs, request.id)
            if (algorithm.leaks) raise(state, limit, more, atMs, presentMs)
            raised.add(limit.unit)
          }
          changed ||= more > 0
          if (more < 0 && how === 'end') {
            const { lows } = state
            changed = algorithm.refund(state, limit, -more, atMs, presentMs, request.id) || state.lows !== lows || changed
          }
          if (charged[limit.unit] > 0 && how === 'end') {
            closes = true
            if (atMs < presentMs) changed = close(state, atMs) || changed
          }
        }
      }
      if (closes && atMs === presentMs && meter.closed()) changed = true
      if (changed) meter.keep()
    }
    return raised
  }

  /**
   * What refuses the call, by the order of `Decide.weigh` in `lua/lib/decide.lua`; null where all meters have room.
   * @param decides whether the call is decided on: then its meters adopt their rates of today
   */
  private weigh(request: AdmissionRequest, nowMs: number, decides = false): Refusal | null {
    let latest: Refusal | null = null
    for (const meter of request.meters) {
      const { rule, value } = meter
      // While calls are paused no other time counts.
      if (rule.kind === 'pause') return { binding: gateBinding(meter), reason: 'paused', waitMs: 0, leased: false }
      const blockedMs = rule.kind === 'upstream' ? this.upstream.blockedMs(value, nowMs) : 0
      if (blockedMs > 0) latest = later(latest, { binding: gateBinding(meter), reason: 'limited', waitMs: waitUp(blockedMs), leased: false })
      if (rule.active === 0) continue
      const known = this.meter(meter, nowMs)
      const states = known.look(rule, nowMs)
      if (decides) known.adoptRates()
      for (let n = 0; n < rule.active; n++) {
        const limit = rule.limits[n] as CompiledLimit
        const cost = costIn(request.costs, limit.unit)
        if (cost > limit.capacity + limit.slack)
          return { binding: bindingOf(meter, limit), reason: limit.capacity === 0 ? 'closed' : 'too_big', waitMs: -1, leased: false }
        const waitMs = cost > 0 ? ALGORITHMS[limit.algorithm].waitMs(states[n] as MeterState, limit, nowMs, cost, 0) : 0
        if (waitMs > 0) latest = later(latest, { binding: bindingOf(meter, limit), reason: 'limited', waitMs, leased: limit.unit === 'concurrency' })
      }
    }
    return latest
  }

  /** @param past whether it has happened already: then room is not asked for, and no slot is held */
  private charge(request: AdmissionRequest, nowMs: number, past: boolean): void {
    const { costs, meters } = request
    for (const part of meters) {
      const { limits, active } = part.rule
      const meter = this.meter(part, nowMs)
      const states = meter.look(part.rule, nowMs)
      if (past) meter.adoptRates()
      let changed = false
      for (let n = 0; n < active; n++) {
        const limit = limits[n] as CompiledLimit
        const cost = costIn(costs, limit.unit)
        if (cost === 0) continue
        changed ||= limit.unit !== 'concurrency'
        if (past) ALGORITHMS[limit.algorithm].overrun(states[n] as MeterState, limit, cost, nowMs, meter.presentMs, '')
        else ALGORITHMS[limit.algorithm].charge(states[n] as MeterState, limit, cost, nowMs, request.id)
      }
      if (changed && (request.forGood !== true || request.mayComeBack === true)) meter.opened()
      if (changed) meter.keep()
    }
    if (request.forGood !== true) this.entries.set(request.id, { token: request.token, atMs: nowMs, counted: request.counted, charged: costs })
  }

  private usage(request: AdmissionRequest, nowMs: number): Usage[] {
    const usage: Usage[] = []
    for (const meter of request.meters) {
      const { limits, active } = meter.rule
      const states = this.meter(meter, nowMs).look(meter.rule, nowMs)
      for (let n = 0; n < active; n++) {
        const limit = limits[n] as CompiledLimit
        const state = states[n] as MeterState
        usage.push(usageOf(meter, limit, { used: state.used + state.debt, claimed: 0, resetMs: ALGORITHMS[limit.algorithm].resetMs(state, limit, nowMs) }))
      }
    }
    return usage
  }

  private run(request: AdmissionRequest, nowMs: number): RunDecision {
    return { outcome: 'run', atMs: nowMs, usage: this.usage(request, nowMs) }
  }

  private reject(request: AdmissionRequest, { binding, reason, waitMs, leased }: Refusal, nowMs: number): RejectDecision {
    const retryAfterMs = reason === 'limited' && !leased ? waitMs : null
    return { outcome: 'reject', reason, retryAfterMs, binding, atMs: nowMs, usage: this.usage(request, nowMs) }
  }

  /** Entries are in the order they were opened: those of a day ago come first. */
  private expire(nowMs: number): void {
    for (const [id, entry] of this.entries) {
      if (!hasExpired(entry, nowMs)) return
      this.entries.delete(id)
      this.counts.expired++
    }
  }

  /** Forgets the meters that count nothing any more. Each was paid for when it came: this takes constant time a meter. */
  private sweep(nowMs: number): void {
    this.kept = 0
    for (const meters of this.meters.values()) {
      for (const [value, meter] of meters) if (meter.idle(nowMs)) meters.delete(value)
      this.kept += meters.size
    }
    this.sweepAt = Math.max(SWEEP_FROM, 2 * this.kept)
  }
}
