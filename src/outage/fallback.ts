import type { AdmissionRequest, MeterRef } from '../admission/request.js'
import type { Binding, RejectDecision, RunDecision, Usage } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { ON_STORE_ERROR, type OnStoreError } from '../policy/rule.js'
import { BLOCK_NAME } from '../policy/upstream-block.js'
import { LedgerNames } from '../store/ledger-names.js'
import type { Admission } from '../store/store.js'
import { Books } from './books.js'
import { LocalMeters } from './local-meters.js'
import type { Share } from './share.js'
import { Unchecked } from './unchecked.js'

/** The rules that cover a call, by what they say to an outage. */
interface Sorted {
  readonly parts: readonly MeterRef[]
  readonly mode: OnStoreError
  /** The strictest of them. */
  readonly binding: Binding
  readonly local: readonly MeterRef[]
  /** Whether a rule, or for want of rules the option, lets it in unchecked. */
  readonly unchecked: boolean
}

/** What became of calls that were asked about while Redis was away. */
export interface FallbackCounts {
  /** Let in by this process's share of the limits. */
  metered: number
  refused: number
}

/**
 * What the gate says while Redis is away. Each rule that covers a call is asked what it says to
 * that: one that is closed refuses, one that is local has to have room in this process's share,
 * one that is open is left out. Where no rule covers the call the option decides.
 */
export class Fallback {
  readonly counts: FallbackCounts = { metered: 0, refused: 0 }
  readonly unchecked: Unchecked
  books: Books
  /** For how long an agent, endpoint and model are blocked. */
  blockedMs: (value: string) => number = () => 0
  private readonly otherwise: OnStoreError
  private readonly now: () => number
  private readonly meters: LocalMeters
  private readonly names = new LedgerNames()
  private share: Share = { of: 1, rank: 0 }

  /** @param now Redis' time, as far as it is known */
  constructor(otherwise: OnStoreError, maxUnchecked: number, now: () => number) {
    this.otherwise = otherwise
    this.now = now
    this.unchecked = new Unchecked(maxUnchecked)
    this.meters = new LocalMeters(now)
    this.books = new Books(now, this.share)
  }

  begin(share: Share): void {
    this.share = share
    this.meters.begin(share)
    this.books = new Books(this.now, share)
  }

  /** What was used so far is taken to Redis; what is used from now on stands in books of its own. */
  turn(): Books {
    const { books } = this
    this.books = new Books(this.now, this.share)
    return books
  }

  admit(request: AdmissionRequest): Admission {
    // Asked twice under an id of its own it is charged once.
    const known = request.call.id === undefined ? undefined : this.books.find(request.id)
    if (known !== undefined) return { request: known, decision: this.run([]) }
    const sorted = this.sort(request)
    const refusal = this.refusal(sorted) ?? this.blockade(request)
    if (refusal !== undefined) return { request, decision: this.refused(refusal) }
    const named = this.name(request)
    const decision = sorted.local.length > 0 ? this.meters.admit(named, sorted.local) : this.run([])
    if (decision.outcome === 'reject') return { request, decision: this.refused(decision) }
    if (sorted.unchecked) this.unchecked.count()
    else this.counts.metered++
    this.books.charge(named)
    return { request: named, decision }
  }

  peek(request: AdmissionRequest): RunDecision | RejectDecision {
    const sorted = this.sort(request)
    return this.refusal(sorted) ?? this.blockade(request) ?? (sorted.local.length > 0 ? this.meters.peek(request, sorted.local) : this.run([]))
  }

  /** It has happened: it is charged when Redis is back, and counts here until then. */
  record(request: AdmissionRequest): Admission {
    const known = this.books.find(request.id)
    if (known !== undefined) return { request: known, decision: this.run([]) }
    const { local } = this.sort(request)
    if (local.length > 0) this.meters.record(request, local)
    this.books.charge(request, false)
    return { request, decision: this.run([]) }
  }

  /** @returns whether it was let in during this outage, and goes on */
  settle(request: AdmissionRequest, actual: Parameters<Books['settle']>[1], how: 'end' | 'part'): boolean {
    const known = this.books.find(request.id)
    if (known === undefined) return false
    const { local } = this.sort(known)
    if (local.length > 0) this.meters.settle(known, local, actual, how)
    this.books.settle(known, actual, how)
    return true
  }

  release(request: AdmissionRequest): boolean {
    const known = this.books.find(request.id)
    if (known === undefined) return false
    const { local } = this.sort(known)
    if (local.length > 0) this.meters.release(known, local)
    this.books.release(known)
    return true
  }

  /** A call that Redis had let in has ended. */
  endedElsewhere(request: AdmissionRequest): void {
    for (const part of this.sort(request).local) this.meters.freeSlot(part)
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

  private sort({ meters }: AdmissionRequest): Sorted {
    const parts = meters.filter(({ rule }) => rule.kind !== 'upstream')
    let strictest: MeterRef | undefined
    let mode: OnStoreError = parts.length === 0 ? this.otherwise : 'open'
    for (const part of parts) {
      const own = this.modeOf(part)
      if (strictest !== undefined && ON_STORE_ERROR.indexOf(own) >= ON_STORE_ERROR.indexOf(mode)) continue
      mode = own
      strictest = part
    }
    const binding: Binding = {
      kind: strictest?.rule.kind ?? 'rule',
      rule: strictest?.rule.name ?? '',
      limit: '',
      scopeValue: strictest?.value ?? '',
      unit: 'none',
    }
    const local = mode === 'closed' ? [] : parts.filter((part) => this.modeOf(part) === 'local')
    return { parts, mode, binding, local, unchecked: mode === 'open' || local.length < parts.length }
  }

  private modeOf({ rule }: MeterRef): OnStoreError {
    // What is paused is known without Redis: nothing is let past it.
    if (rule.kind === 'pause' && this.otherwise === 'open') return 'local'
    return rule.onStoreError ?? this.otherwise
  }

  /** What refuses a call whatever its limits have. */
  private refusal({ mode, binding, unchecked }: Sorted): RejectDecision | undefined {
    const full = this.books.size + this.meters.size >= 2 * DEFAULTS.outageMeters
    if (mode !== 'closed' && !full && !(unchecked && !this.unchecked.room)) return undefined
    return { outcome: 'reject', reason: 'unavailable', retryAfterMs: DEFAULTS.longestProbeMs, binding, atMs: this.now(), usage: [] }
  }

  /** What an agent asked for is kept to, as far as this process has heard. */
  private blockade({ meters }: AdmissionRequest): RejectDecision | undefined {
    const value = meters.find(({ rule }) => rule.kind === 'upstream')?.value
    const retryAfterMs = value === undefined ? 0 : this.blockedMs(value)
    if (value === undefined || retryAfterMs <= 0) return undefined
    const binding: Binding = { kind: 'upstream', rule: BLOCK_NAME, limit: 'retry-after', scopeValue: value, unit: 'none' }
    return { outcome: 'reject', reason: 'limited', retryAfterMs, binding, atMs: this.now(), usage: [] }
  }

  private refused(decision: RejectDecision): RejectDecision {
    this.counts.refused++
    return decision
  }

  private run(usage: readonly Usage[]): RunDecision {
    return { outcome: 'run', atMs: this.now(), usage }
  }

  /** By its name it is known here, and in Redis when it is back. */
  private name(request: AdmissionRequest): AdmissionRequest {
    if (request.call.id !== undefined || request.forGood === true) return request
    const id = this.names.next()
    return { ...request, id, token: '', ledger: undefined, call: { ...request.call, id } }
  }
}
