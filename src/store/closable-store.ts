import type { AdmissionRequest } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import type { RejectDecision, RunDecision, Usage } from '../model/decision.js'
import { TollgateError } from '../model/errors.js'
import type { Observation, UpstreamOutcome, UpstreamReport, UpstreamStatus } from '../model/upstream.js'
import type { Admission, LedgerFigures, MaybePromise, StateResult, Store } from './store.js'

/** Is told what was reset, and what had been used. */
export type NoteReset = (request: AdmissionRequest, usage: readonly Usage[]) => void

/** A store until its Tollgate is closed: then whoever still asks is told so, whatever is behind it. */
export class ClosableStore implements Store {
  private readonly store: Store
  private readonly noteReset: NoteReset | undefined
  private closed = false

  /** @param noteReset is told of each reset; undefined where the store notes them itself */
  constructor(store: Store, noteReset?: NoteReset) {
    this.store = store
    this.noteReset = noteReset
  }

  close(): void {
    this.closed = true
  }

  admit(request: AdmissionRequest): MaybePromise<Admission> {
    return this.open().admit(request)
  }

  peek(request: AdmissionRequest): MaybePromise<RunDecision | RejectDecision> {
    return this.open().peek(request)
  }

  record(request: AdmissionRequest): MaybePromise<Admission> {
    return this.open().record(request)
  }

  settle(request: AdmissionRequest, actual: ActualCosts, how: 'end' | 'part'): MaybePromise<boolean> {
    return this.open().settle(request, actual, how)
  }

  release(request: AdmissionRequest): MaybePromise<boolean> {
    return this.open().release(request)
  }

  reportUpstream(request: AdmissionRequest, report: UpstreamReport): MaybePromise<UpstreamOutcome> {
    return this.open().reportUpstream(request, report)
  }

  upstreamStatus(requests: readonly AdmissionRequest[]): MaybePromise<readonly UpstreamStatus[]> {
    return this.open().upstreamStatus(requests)
  }

  observed(): MaybePromise<readonly Observation[]> {
    return this.open().observed()
  }

  /** What if the process dies between the reset and its note: then its audit is gone, too. */
  async reset(request: AdmissionRequest): Promise<void> {
    const store = this.open()
    if (this.noteReset === undefined) return store.reset(request)
    const { usage } = await store.peek(request)
    await store.reset(request)
    this.noteReset(request, usage)
  }

  compareAndSet(name: string, key: string, was: string, becomes: string, keepMs: number): MaybePromise<StateResult> {
    return this.open().compareAndSet(name, key, was, becomes, keepMs)
  }

  figures(): MaybePromise<LedgerFigures> {
    return this.open().figures()
  }

  private open(): Store {
    if (this.closed) throw new TollgateError('CLOSED', 'this Tollgate was closed')
    return this.store
  }
}
