import { type AdmissionRequest, costIn, type MeterRef } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import type { Binding, RejectDecision, RunDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { MINUTE } from '../model/time.js'
import { BLOCK_LIMIT, BLOCK_NAME } from '../model/upstream.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import type { OnStoreError } from '../policy/rule.js'
import type { LedgerNames } from '../store/ledger-names.js'
import type { Admission } from '../store/store.js'
import { OutageJournal } from './journal.js'
import { LocalMeters, type LocalRef } from './local-meters.js'
import type { Share } from './outage-rule.js'

/** What the rules that cover a call say to an outage. */
interface Covering {
  /** What the strictest of them says; where no rule covers the call, the option. */
  readonly mode: OnStoreError
  readonly strictest: MeterRef | undefined
  /** Meters that must have room. */
  readonly asked: readonly LocalRef[]
  /** Meters of rules that are open. */
  readonly unasked: readonly LocalRef[]
  /** Whether a meter could not be counted, since there are too many. */
  readonly full: boolean
  /** The agent, endpoint and model that may be blocked. */
  readonly block: string | undefined
}

/** What became of calls while Redis was away. */
export interface AdmissionCounts {
  /** Let in by this process's share of the limits. */
  metered: number
  refused: number
}

const NONE: readonly LocalRef[] = []

/**
 * What the gate answers while Redis is away. Each rule that covers a call says what an outage means to it: a closed rule refuses, a local rule must
 * have room in this process's share, an open rule lets in. Where no rule covers the call the option decides.
 */
export class LocalAdmission {
  readonly counts: AdmissionCounts = { metered: 0, refused: 0 }
  readonly unchecked: Unchecked
  readonly journal: OutageJournal
  /** For how long an agent, endpoint and model are blocked. */
  blockedMs: (value: string) => number = () => 0
  /** Whether this process knows the rules of the namespace: then a call that none covers is limited by none. */
  knowsRules = true
  private readonly meters: LocalMeters

  /**
   * @param otherwise what rules mean that do not say it themselves
   * @param now Redis' time, as far as it is known
   */
  constructor(
    private readonly otherwise: OnStoreError,
    maxUnchecked: number,
    private readonly names: LedgerNames,
    now: () => number,
  ) {
    this.unchecked = new Unchecked(maxUnchecked)
    this.meters = new LocalMeters(now, (rule) => this.modeOf(rule))
    this.journal = new OutageJournal(this.meters)
  }

  /** Is called for each call that is let in unchecked. */
  onUnchecked: ((request: AdmissionRequest) => void) | undefined

  begin(share: Share): void {
    this.journal.begin(share)
  }

  admit(request: AdmissionRequest): Admission {
    const nowMs = this.meters.tick()
    // A call that is admitted twice under an id of its own is charged once.
    const known = request.call.id === undefined ? undefined : this.journal.find(request)
    if (known !== undefined) return { request: known, decision: run(nowMs) }
    const covering = this.cover(request)
    const refusal = this.refusal(covering, nowMs) ?? this.blockade(covering, nowMs)
    if (refusal !== undefined) return { request, decision: this.refused(refusal) }
    const named = this.name(request)
    const { asked, unasked } = covering
    const decision = this.journal.admit(named, asked, unasked, nowMs)
    if (decision.outcome === 'reject') return { request, decision: this.refused(explained(decision, request, asked, nowMs)) }
    if (letsUnchecked(covering)) {
      this.unchecked.count()
      this.onUnchecked?.(request)
    } else this.counts.metered++
    return { request: named, decision }
  }

  peek(request: AdmissionRequest): RunDecision | RejectDecision {
    const nowMs = this.meters.tick()
    if (request.call.id !== undefined) this.journal.find(request)
    const covering = this.cover(request)
    const refusal = this.refusal(covering, nowMs) ?? this.blockade(covering, nowMs)
    if (refusal !== undefined || covering.asked.length === 0) return refusal ?? run(nowMs)
    const decision = this.journal.peek(request, covering.asked, nowMs)
    return decision.outcome === 'run' ? decision : explained(decision, request, covering.asked, nowMs)
  }

  /** A call has happened: it is charged when Redis is back, and counts here until then. */
  record(request: AdmissionRequest): Admission {
    const nowMs = this.meters.tick()
    const known = this.journal.find(request)
    if (known !== undefined) return { request: known, decision: run(nowMs) }
    this.journal.record(request, this.meters.all(request), nowMs)
    return { request, decision: run(nowMs) }
  }

  /** @returns whether the call was let in during this outage, and goes on */
  settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): boolean {
    return this.journal.settle(request, actual, how, this.meters.tick())
  }

  /** @returns whether the call was let in during this outage, and goes on */
  release(request: AdmissionRequest): boolean {
    return this.journal.release(request, this.meters.tick())
  }

  /** A call that Redis knows has ended: its slots may be used again. */
  endedElsewhere({ id, meters }: AdmissionRequest): void {
    this.meters.tick()
    for (const ref of meters) {
      if (!ref.rule.keyed.some(({ unit }) => unit === 'concurrency') || this.meters.ruleOf(ref.rule).mode !== 'local') continue
      const local = this.meters.of(ref)
      if (local !== undefined) this.meters.freeSlot(local, id)
    }
  }

  /** Whether what no rule covers may be let in unchecked now. */
  get lets(): boolean {
    return this.otherwise === 'open' && this.unchecked.room
  }

  /** For what cannot be answered without Redis, and is not a call: whether it is let in unchecked. */
  letIn(): boolean {
    if (!this.lets) return false
    this.unchecked.count()
    return true
  }

  private cover(request: AdmissionRequest): Covering {
    const asked: LocalRef[] = []
    let unasked = NONE
    let strictest: MeterRef | undefined
    let missing = false
    let block: string | undefined
    for (const ref of request.meters) {
      if (ref.rule.kind === 'upstream') {
        block = ref.value
        continue
      }
      const local = this.meters.known(ref)
      const mode = local?.rule.mode ?? this.meters.ruleOf(ref.rule).mode
      if (mode === 'closed') return { mode, strictest: ref, asked: NONE, unasked: NONE, full: false, block }
      if (strictest === undefined || (mode === 'local' && asked.length === 0)) strictest = ref
      if (local === undefined) missing = true
      else if (mode === 'local') asked.push(local)
      else unasked = [...unasked, local]
    }
    const uncovered = this.otherwise === 'local' && !this.knowsRules ? 'closed' : this.otherwise
    const mode = strictest === undefined ? uncovered : asked.length > 0 ? 'local' : 'open'
    return missing ? this.coverAnew(request) : { mode, strictest, asked, unasked, full: false, block }
  }

  /** Some meters are met first. Not before it is known that no rule is closed: such calls need no meters. */
  private coverAnew(request: AdmissionRequest): Covering {
    for (const ref of request.meters) {
      if (ref.rule.kind !== 'upstream' && this.meters.of(ref) === undefined)
        return { mode: 'local', strictest: ref, asked: NONE, unasked: NONE, full: true, block: undefined }
    }
    return this.cover(request)
  }

  private modeOf({ kind, onStoreError, limits }: CompiledRule): OnStoreError {
    // A pause is known without Redis: no call is let past it.
    if (kind === 'pause' && this.otherwise === 'open') return 'local'
    const mode = onStoreError ?? this.otherwise
    // Without the twin of its algorithm this process cannot count a limit.
    return mode === 'local' && limits.some(({ own }) => own !== undefined && own.twin === undefined) ? 'closed' : mode
  }

  /** What refuses a call whatever its limits have. */
  private refusal(covering: Covering, nowMs: number): RejectDecision | undefined {
    const { mode, strictest, full } = covering
    if (mode !== 'closed' && !full && !(letsUnchecked(covering) && !this.unchecked.room)) return undefined
    const { rule, value } = strictest ?? { rule: undefined, value: '' }
    const binding: Binding = { kind: rule?.kind ?? 'rule', rule: rule?.name ?? '', limit: '', scopeValue: value, unit: 'none' }
    return { outcome: 'reject', reason: 'unavailable', retryAfterMs: DEFAULTS.storeRetryAfterMs, binding, atMs: nowMs, usage: [] }
  }

  /** What an agent asked for is kept to, as far as this process has heard. */
  private blockade({ block: value }: Covering, nowMs: number): RejectDecision | undefined {
    if (value === undefined) return undefined
    const retryAfterMs = this.blockedMs(value)
    if (retryAfterMs <= 0) return undefined
    const binding: Binding = { kind: 'upstream', rule: BLOCK_NAME, limit: BLOCK_LIMIT, scopeValue: value, unit: 'none' }
    return { outcome: 'reject', reason: 'limited', retryAfterMs, binding, atMs: nowMs, usage: [] }
  }

  private refused(decision: RejectDecision): RejectDecision {
    this.counts.refused++
    return decision
  }

  /** Gives a call a name, by which it is known here, and in Redis when that is back. */
  private name(request: AdmissionRequest): AdmissionRequest {
    if (request.call.id !== undefined || request.forGood === true) return request
    const id = this.names.next()
    // Not a spread, which costs more than a meter.
    const { call, meters, costs, counted, strategy } = request
    return { id, token: '', ledger: undefined, call, meters, costs, counted, strategy }
  }
}

function run(nowMs: number): RunDecision {
  return { outcome: 'run', atMs: nowMs, usage: [] }
}

/** Whether a rule, or for want of rules the option, lets the call in unchecked. */
function letsUnchecked({ mode, unasked }: Covering): boolean {
  return mode === 'open' || unasked.length > 0
}

/** A refusal as it concerns the limit itself: a share, or the tenth of a window, says less about that. */
function explained(decision: RejectDecision, { costs }: AdmissionRequest, asked: readonly LocalRef[], nowMs: number): RejectDecision {
  const { binding, reason, retryAfterMs } = decision
  const local = asked.find(({ ref }) => ref.rule.name === binding.rule && ref.value === binding.scopeValue)
  const place = local?.ref.rule.limits.findIndex(({ name }) => name === binding.limit) ?? -1
  const limit = local?.ref.rule.limits[place]
  const share = local?.rule.share.limits[place]
  if (local === undefined || limit === undefined || share === undefined || reason === 'paused') return decision
  const tenthMs = local.rule.tenthMs(binding.limit, nowMs)
  if (reason === 'limited') return tenthMs > 0 && retryAfterMs !== null && tenthMs < retryAfterMs ? { ...decision, retryAfterMs: tenthMs } : decision
  const cost = costIn(costs, limit.unit)
  if (tenthMs > 0 && cost <= share.capacity + share.slack) return { ...decision, reason: 'limited', retryAfterMs: tenthMs }
  return cost <= limit.capacity ? { ...decision, reason: 'unavailable', retryAfterMs: DEFAULTS.storeRetryAfterMs } : decision
}

/** A minute is cut into cells; what was let in counts until all of its cell is a minute ago. */
const CELLS = 60
const CELL_MS = MINUTE / CELLS

/** How many calls this process lets in unchecked: at most `most` in any minute. */
export class Unchecked {
  /** All so far. */
  total = 0
  private cells: { readonly cell: number; count: number }[] = []

  constructor(
    private readonly most: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  get room(): boolean {
    const oldest = Math.floor(this.now() / CELL_MS) - CELLS
    this.cells = this.cells.filter(({ cell }) => cell >= oldest)
    return this.cells.reduce((sum, { count }) => sum + count, 0) < this.most
  }

  count(): void {
    this.total++
    const cell = Math.floor(this.now() / CELL_MS)
    const last = this.cells.at(-1)
    if (last?.cell === cell) last.count++
    else this.cells.push({ cell, count: 1 })
  }
}
