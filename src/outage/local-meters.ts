import type { AdmissionRequest, MeterRef } from '../admission/request.js'
import type { MeterState } from '../limits/algorithm.js'
import { ALGORITHMS } from '../limits/algorithms.js'
import type { CompiledLimit } from '../limits/compiled-limit.js'
import type { RejectDecision, RunDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import { MemoryStore } from '../store/memory/memory-store.js'
import { type Share, shareOfRule } from './share.js'

/** Who holds the slots of which nobody here knows whether they are free. */
const SOMEBODY = '~somebody'

/**
 * The meters by which a process decides while Redis is away: its share of each limit.
 *
 * What the fleet had used when the outage began is not known here, so all of it counts as used,
 * but a tenth of what is not spaced out: a bucket begins with a tenth of its burst, a window with a
 * tenth of its limit until it has passed as a whole, and slots come free as their leases end. So
 * fleets of any size stay within 1.1 times the limit. They are kept when the outage ends: one that
 * begins again in the same window has no other tenth.
 */
export class LocalMeters {
  private readonly now: () => number
  private readonly store: MemoryStore
  private readonly topped = new Set<string>()
  private shares = new WeakMap<CompiledRule, CompiledRule>()
  private share: Share = { of: 1, rank: 0 }
  private beganMs = 0

  /** @param now Redis' time, as far as it is known */
  constructor(now: () => number) {
    this.now = now
    this.store = new MemoryStore(now)
  }

  /** An outage begins. */
  begin(share: Share): void {
    if (share.of !== this.share.of || share.rank !== this.share.rank) this.shares = new WeakMap()
    this.share = share
    this.beganMs = this.now()
    this.topped.clear()
  }

  /** How many meters were asked for in this outage. */
  get size(): number {
    return this.topped.size
  }

  /** Charges this process's share of these meters, or refuses. */
  admit(request: AdmissionRequest, parts: readonly MeterRef[]): RunDecision | RejectDecision {
    const local = this.shared(request, parts)
    return this.said(request, parts, this.store.admit(local).decision)
  }

  peek(request: AdmissionRequest, parts: readonly MeterRef[]): RunDecision | RejectDecision {
    return this.said(request, parts, this.store.peek(this.shared(request, parts)))
  }

  /** Charges it, room or not. */
  record(request: AdmissionRequest, parts: readonly MeterRef[]): void {
    this.store.record(this.shared(request, parts))
  }

  settle(request: AdmissionRequest, parts: readonly MeterRef[], actual: Parameters<MemoryStore['settle']>[1], how: 'end' | 'part'): void {
    this.store.settle(this.shared(request, parts), actual, how)
  }

  release(request: AdmissionRequest, parts: readonly MeterRef[]): void {
    this.store.release(this.shared(request, parts))
  }

  /** A call that was let in before the outage has ended here: its slot may be used again. */
  freeSlot(part: MeterRef): void {
    if (!part.rule.keyed.some(({ unit }) => unit === 'concurrency')) return
    const [shared] = this.shared({ ...NOBODY, meters: [part] }, [part]).meters as [MeterRef]
    const states = this.store.meter(shared, this.now()).look(shared.rule, this.now())
    for (const { slots } of states) {
      const free = [...(slots?.keys() ?? [])].find((holder) => holder.startsWith(SOMEBODY))
      if (free !== undefined) slots?.delete(free)
    }
  }

  private shared(request: AdmissionRequest, parts: readonly MeterRef[]): AdmissionRequest {
    const shared = parts.map((part) => ({ rule: this.ruleOf(part.rule), value: part.value, keys: [], line: '' }))
    for (const part of shared) this.topUp(part)
    return { ...request, meters: shared }
  }

  private ruleOf(rule: CompiledRule): CompiledRule {
    let shared = this.shares.get(rule)
    if (shared === undefined) {
      shared = shareOfRule(rule, this.share)
      this.shares.set(rule, shared)
    }
    return shared
  }

  /** What may have been used when the outage began counts as used. Done again for a meter that was forgotten it comes to the same. */
  private topUp(part: MeterRef): void {
    const key = `${part.rule.name}/${part.value}`
    if (this.topped.has(key)) return
    this.topped.add(key)
    const meter = this.store.meter(part, this.beganMs)
    const states = meter.look(part.rule, this.beganMs)
    for (const [n, limit] of part.rule.limits.entries()) fill(states[n] as MeterState, limit, this.beganMs)
    meter.keep()
  }

  /** A share too small for a call says nothing about its limit. */
  private said(request: AdmissionRequest, parts: readonly MeterRef[], decision: RunDecision | RejectDecision): RunDecision | RejectDecision {
    if (decision.outcome === 'run' || decision.reason === 'limited' || decision.reason === 'paused') return decision
    const { binding } = decision
    const limit = parts.find(({ rule }) => rule.name === binding.rule)?.rule.limits.find(({ name }) => name === binding.limit)
    const cost = limit === undefined ? 0 : limit.unit === 'concurrency' ? 1 : request.costs[limit.unit]
    return limit !== undefined && cost <= limit.capacity ? { ...decision, reason: 'unavailable', retryAfterMs: DEFAULTS.longestProbeMs } : decision
  }
}

const NOBODY: AdmissionRequest = {
  id: '',
  token: '',
  forGood: true,
  call: {},
  meters: [],
  costs: { requests: 0, tokens: 0, inputTokens: 0, outputTokens: 0, usd: 0, points: 0 },
  counted: [],
}

/** Counts as used what is not known to be free; what is counted already is part of it. */
function fill(state: MeterState, limit: CompiledLimit, atMs: number): void {
  const algorithm = ALGORITHMS[limit.algorithm]
  if (limit.unit === 'concurrency') {
    for (let slot = state.used; slot < limit.capacity; slot++) algorithm.charge(state, limit, 1, atMs, `${SOMEBODY}${slot}`)
    return
  }
  const free = limit.algorithm === 'leaky_bucket' ? 0 : limit.capacity * DEFAULTS.outageShare
  const missing = limit.capacity - free - state.used
  if (missing > 0) algorithm.charge(state, limit, missing, atMs, SOMEBODY)
}
