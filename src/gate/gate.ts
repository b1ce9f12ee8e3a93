import { randomUUID } from 'node:crypto'
import { DecisionAnswer } from '../admission/answer.js'
import { tokenOf } from '../admission/identity.js'
import { rejection } from '../admission/rejection.js'
import type { CallRequest } from '../admission/request.js'
import type { Resolver } from '../admission/resolver.js'
import type { UsageReader } from '../admission/usage-reader.js'
import type { Recorder } from '../history/recorder.js'
import type { Call } from '../model/call.js'
import { type Costs, NOTHING } from '../model/cost.js'
import type { RejectDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid, TollgateError } from '../model/errors.js'
import { reasonOf } from '../model/wait-reason.js'
import type { CallUsage } from '../pricing/usage.js'
import { isStoreError } from '../redis/store-error.js'
import type { Admission, Store } from '../store/store.js'
import type { CallMetrics } from '../telemetry/call-metrics.js'
import { tracedGate, tracerInUse } from '../telemetry/tracing.js'
import { validateCall } from '../validation/call.js'
import { type AcquireAttempt, AcquireLines, linesOf } from './acquire-line.js'
import { callsOf, linesOfProcess } from './acquire-list.js'
import { GateCounts } from './gate-counts.js'
import { Grant, type Granter } from './grant.js'
import type { CallsPage, CheckedCallsQuery, CheckedLinesQuery, LinesPage } from './waiting.js'

/** Whether `acquire` waits for the end of what a call was refused for. */
const IS_WAITED_FOR: Readonly<Record<RejectDecision['reason'], boolean>> = {
  limited: true,
  paused: true,
  unavailable: true,
  too_big: false,
  closed: false,
  late: false,
  line_full: false,
}

/** The gate without the queue: decides on calls and charges them at once, or waits in this process until they have room. */
export class Gate {
  private readonly lines = new AcquireLines<Grant>()
  private readonly counts: GateCounts

  constructor(
    private readonly resolver: Resolver,
    private readonly store: Store,
    private readonly usage: UsageReader,
    private readonly metrics: CallMetrics,
    private readonly recorder: Recorder,
  ) {
    this.counts = new GateCounts(recorder, metrics)
  }

  /** What `admit` would decide; charges nothing. @throws CallInvalid */
  async peek(call: Call): Promise<DecisionAnswer> {
    const request = this.request(call)
    return new DecisionAnswer(await this.store.peek(request instanceof Promise ? await request : request))
  }

  /** Charges the call at all its limits if all have room, and at none if not. @throws CallInvalid */
  admit(call: Call): Promise<Grant> {
    const tracer = tracerInUse()
    return tracer === undefined ? this.admitCall(call) : tracedGate(tracer, 'gate', () => this.admitCall(call))
  }

  private async admitCall(call: Call): Promise<Grant> {
    const found = this.request(call)
    const request = found instanceof Promise ? await found : found
    return this.charge(request)
  }

  /** Charges the call and returns its grant; null where it has no room now. @throws CallInvalid */
  async tryAcquire(call: Call): Promise<Grant | null> {
    const grant = await this.admit(call)
    return grant.allowed ? grant : null
  }

  /**
   * Waits in this process until the call has room, and charges it. Calls that wait for the same rule and scope
   * value pass in order of arrival. The strategies of rules are ignored: every call waits.
   * @throws CallInvalid; RateLimitExceeded where it can never pass; the signal's reason where it aborts
   */
  acquire(call: Call, options: { signal?: AbortSignal | undefined } = {}): Promise<Grant> {
    const tracer = tracerInUse()
    return tracer === undefined ? this.acquireCall(call, options) : tracedGate(tracer, 'wait', () => this.acquireCall(call, options))
  }

  private async acquireCall(call: Call, { signal }: { signal?: AbortSignal | undefined }): Promise<Grant> {
    let rules = this.resolver.rules
    const own = validateCall(call)
    let request = await this.request(own)
    const cameMs = performance.now()
    this.recorder.arrived(request)
    return this.lines.enter(
      linesOf(request),
      own,
      async () => {
        // A change of the rules counts for calls that wait, too.
        if (this.resolver.rules !== rules) {
          rules = this.resolver.rules
          request = await this.request(own)
        }
        return this.attempt(request, cameMs)
      },
      (grant) => grant.release().catch(() => false),
      signal,
    )
  }

  /**
   * Charges a call that was made already, whether it has room or not; usage above a limit is debt, paid back before the next call starts. Under an
   * `id` it is charged once, and can be settled; without one it is charged for good. @throws CallInvalid
   */
  async record(call: Call): Promise<DecisionAnswer> {
    const request = await this.request(call)
    const { decision } = await this.store.record(call.id === undefined ? { ...request, id: `~~/${randomUUID()}`, forGood: true } : request)
    return new DecisionAnswer(decision)
  }

  /** Settles a call that was admitted under its `id`, in any process. Returns whether it was open. @throws CallInvalid where it has no id */
  async settle(call: Call, usage?: CallUsage): Promise<boolean> {
    return this.grantOf(call).settle(usage)
  }

  /** Gives back the charge of a call that was admitted under its `id` and not made. @throws CallInvalid where it has no id */
  async release(call: Call): Promise<boolean> {
    return this.grantOf(call).release()
  }

  /** A page of the calls of this process that wait in `acquire`. */
  waitingCalls(query: CheckedCallsQuery): CallsPage {
    return callsOf(this.lines.list(), query)
  }

  /** A page of the lines in which they wait. */
  waitingLines(query: CheckedLinesQuery): LinesPage {
    return linesOfProcess(this.lines.list(), query)
  }

  /** The rules changed: calls that wait may have room. */
  rulesChanged(): void {
    this.lines.wakeAll()
  }

  /** Rejects the calls that wait. Resolves when none is being decided. */
  close(): Promise<void> {
    return this.lines.close(new TollgateError('CLOSED', 'this Tollgate was closed, and admits no call any more'))
  }

  /** The grant that a call got under its id. @throws CallInvalid where it has none */
  private grantOf(input: Call): Grant {
    const said = validateCall(input)
    const call = this.resolver.withEndpoint(said)
    if (call.id === undefined) throw new CallInvalid('id: is needed to know which call ended (got undefined)')
    const request: CallRequest = { ...identified(said), call, ...this.resolver.resolve(call, NOTHING) }
    return new Grant(this.granter(request), { request, decision: { outcome: 'run', atMs: 0, usage: [] } })
  }

  /** @param cameMs when the call came, by `performance.now`, where it waits in a line of this process */
  private async charge(request: CallRequest, cameMs?: number): Promise<Grant> {
    const sentMs = performance.now()
    const admission = await this.admission(request)
    if (cameMs === undefined) this.counts.decided(request, admission.decision, sentMs)
    else {
      this.recorder.decided(request, admission.decision, performance.now() - sentMs)
      this.metrics.decided('gate', request, admission.decision, sentMs)
    }
    if (admission.decision.outcome === 'run') {
      this.resolver.started(request)
      if (cameMs !== undefined) this.recorder.started(request, sentMs - cameMs)
    }
    return new Grant(this.granter(request), admission)
  }

  private async admission(request: CallRequest): Promise<Admission> {
    try {
      return await this.store.admit(request)
    } catch (error) {
      if (isStoreError(error)) this.recorder.storeError(request)
      throw error
    }
  }

  private async attempt(request: CallRequest, cameMs: number): Promise<AcquireAttempt<Grant>> {
    const grant = await this.charge(request, cameMs)
    const { decision } = grant
    if (decision.outcome === 'run') return { granted: grant }
    if (!IS_WAITED_FOR[decision.reason]) throw rejection(decision, { ...request, ownEstimate: this.resolver.ownEstimate })
    const { rule, scopeValue } = decision.binding
    // Resuming a call changes the rules, which wakes its line; the time is for a message that was lost.
    const unknownMs = decision.reason === 'paused' ? DEFAULTS.rulesRefreshMs : DEFAULTS.slotRecheckMs
    const knownMs = decision.retryAfterMs ?? unknownMs
    // What calls of the queue have claimed may come back before that, and tells no process.
    const mayComeBack = knownMs > DEFAULTS.rulesRefreshMs && decision.usage.some((usage) => usage.rule === rule && usage.claimed > 0)
    const limit = decision.usage.find((one) => one.rule === rule && one.limit === decision.binding.limit && one.scopeValue === scopeValue)
    const roomAtMs = decision.retryAfterMs === null ? null : performance.now() + decision.retryAfterMs
    const waits = { binding: decision.binding, waitsFor: reasonOf(decision.binding, limit?.windowMs), roomAtMs }
    return { waitMs: mayComeBack ? DEFAULTS.rulesRefreshMs : knownMs, line: `${rule}/${scopeValue}`, ...waits }
  }

  private granter(request: CallRequest): Granter {
    return {
      store: this.store,
      read: (usage) => (usage === undefined ? undefined : this.usage.usageIn(request.call.agent, { usage })),
      actual: (usage) => this.usage.actual(request, usage),
      settled: (actual) => {
        this.recorder.used(request, actual)
        this.recorder.ended(request, 'done')
      },
      freed: (ended) => this.lines.wake(linesOf(ended)),
    }
  }

  private request(input: Call): CallRequest | Promise<CallRequest> {
    const said = validateCall(input)
    const call = this.resolver.withEndpoint(said)
    const costs = this.resolver.costs(call)
    return costs instanceof Promise ? costs.then((known) => this.requestOf(said, call, known)) : this.requestOf(said, call, costs)
  }

  /** Field by field: this is done for each check, and V8 copies a second spread one by one. */
  private requestOf(said: Call, call: Call, known: Costs): CallRequest {
    const { id, token } = identified(said)
    const { meters, costs, counted } = this.resolver.resolve(call, known)
    return { id, token, call, meters, costs, counted }
  }
}

const UNNAMED = { id: '', token: '' }

/** The name of a call in the store: by its id and identity; the store names a call without an id. */
function identified(call: Call): Pick<CallRequest, 'id' | 'token'> {
  return call.id === undefined ? UNNAMED : { id: `~/${call.id}`, token: tokenOf(call) }
}
