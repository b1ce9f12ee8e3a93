import { type AdmissionRequest, costIn, type MeterRef } from '../admission/request.js'
import { emptyState, type MeterState } from '../limits/algorithm.js'
import { ALGORITHMS } from '../limits/algorithms.js'
import type { CompiledLimit } from '../limits/compiled-limit.js'
import type { Costs } from '../model/cost.js'
import { DEFAULTS } from '../model/defaults.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import type { OnStoreError } from '../policy/rule.js'
import { MemoryStore } from '../store/memory/memory-store.js'
import { OutageRule, type Share, startOf } from './outage-rule.js'

/** The holder of usage and slots that are assumed at the start of an outage, since it hides whose they are. */
const ASSUMED = '~assumed'

/** What Redis is to be charged at one meter: an amount for each limit. */
export interface MeterUsage {
  readonly part: MeterRef
  readonly amounts: readonly number[]
}

/** A part of a meter's state that is not reported: it was assumed at the start, or has been reported. */
interface Unreported {
  readonly state: MeterState
  readonly atMs: number
}

/** One meter that this process has counted in an outage, of a rule and scope value. */
interface LocalMeter {
  /** In which outage it was met last. */
  outage: number
  /** By which meter of a call it was charged last. */
  last: LocalRef | undefined
  /** Whether it was charged since the last report. */
  charged: boolean
  /** By the id of the limit. */
  readonly known: Map<number, Unreported>
}

/** The meter of a call, as this process counts it in an outage. */
export class LocalRef {
  /** Under the whole share: for what a call costs beyond its estimate. */
  readonly share: MeterRef
  private current: MeterRef

  constructor(
    readonly meter: LocalMeter,
    readonly rule: OutageRule,
    /** By which Redis knows the meter. */
    readonly ref: MeterRef,
  ) {
    this.share = this.under(rule.share)
    this.current = this.share
  }

  /** Under the share, or the tenth of it: for a call that must have room now. */
  asked(nowMs: number): MeterRef {
    const rule = this.rule.at(nowMs)
    if (rule !== this.current.rule) this.current = this.under(rule)
    return this.current
  }

  /** For a refund: under the rule object of the charge, since the meter in memory copies its states for any other. */
  given(nowMs: number): MeterRef {
    return this.rule.mode === 'local' ? this.asked(nowMs) : this.counted
  }

  /** Under the share without slots: for a charge that needs no room. */
  get counted(): MeterRef {
    return this.under(this.rule.counted)
  }

  private under(rule: CompiledRule): MeterRef {
    return { rule, value: this.ref.value, keys: [], line: '' }
  }
}

/** The meters that a process counts in outages, in one store. */
export class LocalMeters {
  readonly store: MemoryStore
  private nowMs = 0
  private beganMs = 0
  private outage = 0
  private share: Share = { of: 1, rank: 0 }
  private readonly meters = new Map<string, LocalMeter>()
  private readonly refs = new Map<MeterRef, LocalRef>()
  private readonly rules = new Map<CompiledRule, OutageRule>()
  private charged: LocalMeter[] = []

  /**
   * @param now Redis' time, as far as it is known
   * @param modeOf what a rule says to an outage
   */
  constructor(
    private readonly now: () => number,
    private readonly modeOf: (rule: CompiledRule) => OnStoreError,
  ) {
    this.store = new MemoryStore(() => this.nowMs)
  }

  /** Reads the clock: until it is read again, everything happens at this time. */
  tick(): number {
    this.nowMs = this.now()
    return this.nowMs
  }

  /** An outage begins. Whatever was used in one before has been reported. */
  begin(share: Share): void {
    this.share = share
    this.beganMs = this.tick()
    this.outage++
    this.refs.clear()
    this.rules.clear()
    for (const [key, { last }] of this.meters) {
      if (last === undefined || this.store.meter(last.share, this.nowMs).idle(this.nowMs)) this.meters.delete(key)
    }
  }

  get empty(): boolean {
    return this.charged.length === 0
  }

  ruleOf(rule: CompiledRule): OutageRule {
    let own = this.rules.get(rule)
    if (own === undefined) {
      own = new OutageRule(this.modeOf(rule), rule, this.share, this.beganMs)
      this.rules.set(rule, own)
    }
    return own
  }

  /** The meter of a call, if it was met in this outage. */
  known(ref: MeterRef): LocalRef | undefined {
    return this.refs.get(ref)
  }

  /** The meter of a call as it is counted here; undefined where there are too many meters to count another. */
  of(ref: MeterRef): LocalRef | undefined {
    return this.refs.get(ref) ?? this.meet(ref)
  }

  /** All that a call is charged at. */
  all({ meters }: AdmissionRequest): LocalRef[] {
    const all: LocalRef[] = []
    for (const ref of meters) {
      const local = ref.rule.kind === 'upstream' ? undefined : this.of(ref)
      if (local !== undefined) all.push(local)
    }
    return all
  }

  noteCharged(local: LocalRef): void {
    const { meter } = local
    if (meter.charged && meter.last === local) return
    meter.last = local
    if (meter.charged) return
    meter.charged = true
    this.charged.push(meter)
  }

  /** Frees a slot: that of a call, or else one that was assumed to be held. */
  freeSlot(local: LocalRef, id: string): void {
    const states = this.store.meter(local.share, this.nowMs).look(local.share.rule, this.nowMs)
    for (const state of states) {
      const holder = state.slots?.has(id) ? id : [...(state.slots?.keys() ?? [])].find((one) => one.startsWith(ASSUMED))
      if (holder !== undefined && state.slots?.delete(holder)) state.used--
    }
  }

  /**
   * What was used at each meter since the last report, and counts now.
   * @param apart what of it Redis is charged call by call
   */
  report(apart: ReadonlyMap<LocalMeter, ReadonlyMap<number, number>>): MeterUsage[] {
    const usage = this.charged.map((meter) => this.usageOf(meter, meter.last as LocalRef, apart.get(meter)))
    this.charged = []
    return usage.filter(({ amounts }) => amounts.some((amount) => amount > 0))
  }

  /** Adds what a call was charged at a time, and counts now, by the id of the limit. */
  addCharge(sums: Map<number, number>, { rule }: LocalRef, costs: Costs, atMs: number): void {
    const { limits, active } = rule.share
    for (const limit of limits.slice(0, active)) {
      if (!counts(limit)) continue
      const state = emptyState()
      ALGORITHMS[limit.algorithm].charge(state, limit, costIn(costs, limit.unit), atMs, '')
      // A bucket is filled by time, not by call: what a call took from it is taken off as a whole.
      if (startOf(limit.algorithm) === 'tenth') ALGORITHMS[limit.algorithm].roll(state, limit, atMs, this.nowMs)
      sums.set(limit.id, (sums.get(limit.id) ?? 0) + state.used)
    }
  }

  private meet(ref: MeterRef): LocalRef | undefined {
    const key = `${ref.rule.name}/${ref.value}`
    let meter = this.meters.get(key)
    if (meter === undefined) {
      if (this.meters.size >= DEFAULTS.outageMeters) return undefined
      meter = { outage: 0, last: undefined, charged: false, known: new Map() }
      this.meters.set(key, meter)
    }
    const local = new LocalRef(meter, this.ruleOf(ref.rule), ref)
    this.assume(local)
    // The objects of one meter are many where calls remember few of them: each is met again.
    if (this.refs.size >= 2 * DEFAULTS.outageMeters) this.refs.clear()
    this.refs.set(ref, local)
    return local
  }

  /** Brings a meter that is met first in this outage, or under another rule, to where it has to begin. */
  private assume({ meter, share }: LocalRef): void {
    const first = meter.outage !== this.outage
    if (first) meter.known.clear()
    meter.outage = this.outage
    const atMs = first ? this.beganMs : this.nowMs
    const memory = this.store.meter(share, atMs)
    const states = memory.look(share.rule, atMs)
    for (const [n, limit] of share.rule.limits.entries()) {
      if (meter.known.has(limit.id)) continue
      const state = states[n] as MeterState
      fill(state, limit, atMs)
      meter.known.set(limit.id, { state: snapshot(state), atMs })
    }
    memory.keep()
  }

  private usageOf(meter: LocalMeter, { ref, share }: LocalRef, apart: ReadonlyMap<number, number> | undefined): MeterUsage {
    const states = this.store.meter(share, this.nowMs).look(share.rule, this.nowMs)
    const amounts = share.rule.limits.map((limit, n) => {
      const state = states[n] as MeterState
      const used = counts(limit) ? totalOf(state) - this.knownOf(meter, limit) - (apart?.get(limit.id) ?? 0) : 0
      meter.known.set(limit.id, { state: snapshot(state), atMs: this.nowMs })
      return used > limit.slack ? used : 0
    })
    meter.charged = false
    return { part: ref, amounts }
  }

  /** How much of a limit's usage is not to be reported. */
  private knownOf({ known }: LocalMeter, limit: CompiledLimit): number {
    const found = known.get(limit.id)
    if (found === undefined) return 0
    const state = { ...found.state }
    ALGORITHMS[limit.algorithm].roll(state, limit, found.atMs, this.nowMs)
    return totalOf(state)
  }
}

/** Whether a limit has usage that is reported; slots are charged call by call. */
function counts({ algorithm }: CompiledLimit): boolean {
  return startOf(algorithm) !== 'leased'
}

function totalOf({ used, debt }: MeterState): number {
  return used + debt
}

/** A copy that later changes to the state leave as it is. */
function snapshot(state: MeterState): MeterState {
  return { ...emptyState(), used: state.used, debt: state.debt, history: state.history?.slice() ?? null, gone: state.gone }
}

/** Makes up for usage before the outage: what is not known to be free counts as used; what is counted already is part of it. */
function fill(state: MeterState, limit: CompiledLimit, atMs: number): void {
  const algorithm = ALGORITHMS[limit.algorithm]
  const start = startOf(limit.algorithm)
  switch (start) {
    case 'leased':
      for (let slot = state.used; slot < limit.capacity; slot++) algorithm.charge(state, limit, 1, atMs, `${ASSUMED}${slot}`)
      return
    case 'filled': {
      const free = limit.algorithm === 'leaky_bucket' ? 0 : limit.capacity * DEFAULTS.outageShare
      const missing = limit.capacity - free - state.used
      if (missing > 0) algorithm.charge(state, limit, missing, atMs, ASSUMED)
      return
    }
    case 'tenth':
      return
    default:
      start satisfies never
  }
}
