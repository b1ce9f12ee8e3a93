import { randomUUID } from 'node:crypto'
import { Job, type JobsOptions, type Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { rejection } from '../admission/rejection.js'
import { type CallRequest, weightOf } from '../admission/request.js'
import type { Call } from '../model/call.js'
import type { Decision, DegradeDecision, ExpiredDecision, RejectDecision, RunDecision, WaitDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable, TollgateError } from '../model/errors.js'
import { SECOND } from '../model/time.js'
import { Budget, Unanswered } from '../redis/bounded-wait.js'
import { Batcher } from '../store/redis/batcher.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { jsonOf, validateCall } from '../validation/call.js'
import type { Results } from './results.js'
import { type CallJobOptions, callRequest, delayMs, leave, readRecord, recordId, withEstimate } from './stored-call.js'
import type { ResolvedDecision, StrategyResolver } from './strategy-resolver.js'

/** How many jobs are added to BullMQ in one round trip. */
const ADDED_AT_ONCE = 50

const JOB_OPTIONS: JobsOptions = {
  removeOnComplete: { age: DEFAULTS.keepResultsMs / SECOND },
  removeOnFail: { age: DEFAULTS.keepFailuresMs / SECOND },
}

/** What an app holds of an enqueued call. */
export class Ticket {
  /**
   * @param id of the call and of its BullMQ job; '' where the call was not valid
   * @param decision of the gate at the enqueue; undefined where the call was not valid, or a call of its id existed
   * @param error why the call was refused; undefined where it was accepted
   */
  constructor(
    readonly id: string,
    readonly decision: RunDecision | DegradeDecision | WaitDecision | RejectDecision | ExpiredDecision | undefined,
    readonly error: TollgateError | undefined,
    private readonly results: Results,
  ) {}

  /**
   * What the handler returned. @throws TollgateError with the reason where the call failed,
   * was refused or cancelled; the signal's reason where it is aborted (the call goes on)
   */
  async result(options: { signal?: AbortSignal } = {}): Promise<unknown> {
    if (this.error !== undefined) throw this.error
    return this.results.wait(this.id, options.signal)
  }
}

export interface EnqueuerParts {
  readonly scriptClient: ScriptClient
  readonly redis: Redis
  readonly queue: Queue
  readonly results: Results
  readonly strategyResolver: StrategyResolver
  /** How often a call is tried whose handler fails. */
  readonly attempts: number | undefined
  /** How long Redis may take for the calls that are added together. */
  readonly timeoutMs: number
}

/** A call on its way in: prepared → decided → queued. It leaves that way as refused. */
type IncomingCall =
  | { readonly state: 'prepared'; readonly id: string; readonly request: CallRequest }
  | { readonly state: 'decided'; readonly id: string; readonly request: CallRequest; readonly decision: Decision; readonly decidedMs: number }
  /** Its job is in BullMQ; without a decision where that is the job of an earlier call with its id or deduplication key. */
  | { readonly state: 'queued'; readonly id: string; readonly decision?: Decision }
  /** Without a decision where the call is not valid ('' is its id then), or Redis did not answer. */
  | { readonly state: 'refused'; readonly id: string; readonly error: TollgateError; readonly decision?: Decision }

type PreparedCall = Exclude<IncomingCall, { state: 'decided' }>
type DecidedCall = Exclude<IncomingCall, { state: 'prepared' }>
type EnqueuedCall = Extract<IncomingCall, { state: 'queued' | 'refused' }>

/**
 * Takes calls in: validates, estimates, has the script `enqueue` decide, and adds the job as decided.
 *
 * If the process dies between the decision and the job, the app has no answer, and Redis holds a pass or a place
 * in line without a job. The dispatcher finds it when the call is woken, and gives its room back.
 */
export class Enqueuer {
  private readonly jobOptions: JobsOptions
  private readonly batcher: Batcher<CallRequest, Decision>

  constructor(private readonly parts: EnqueuerParts) {
    const { attempts, scriptClient } = parts
    this.jobOptions = attempts === undefined ? JOB_OPTIONS : { ...JOB_OPTIONS, attempts, backoff: { type: 'exponential', delay: SECOND } }
    this.batcher = new Batcher<CallRequest, Decision>(DEFAULTS.batchKeys, weightOf, (requests) => scriptClient.enqueue(requests, parts.queue.name))
  }

  /** @throws CallInvalid, RateLimitExceeded, StoreUnavailable; nothing is charged or enqueued then, unless the last has `maybeEnqueued` */
  async enqueue(input: Call): Promise<Ticket> {
    const [ticket] = await this.enqueueMany([input])
    if (ticket?.error !== undefined) throw ticket.error
    return ticket as Ticket
  }

  /** One ticket each, in order; a refused one carries its `error`. */
  async enqueueMany(inputs: readonly Call[]): Promise<Ticket[]> {
    const chunks: Promise<EnqueuedCall[]>[] = []
    let adding: Promise<unknown> = Promise.resolve()
    let away: Unanswered | undefined
    // One chunk is decided while the chunk before it is added: the first calls start while the last are still on their way in.
    for (let from = 0; from < inputs.length; from += ADDED_AT_ONCE) {
      const chunk = inputs.slice(from, from + ADDED_AT_ONCE)
      const budget = new Budget(this.parts.redis, this.parts.timeoutMs)
      try {
        // Redis did not answer for an earlier chunk: the rest is not tried, since each chunk would wait as long.
        if (away !== undefined) throw new Unanswered(away.message, false, away.cause)
        const prepared = await budget.step(() => Promise.all(chunk.map((input) => this.prepare(input))))
        const decided = await Promise.all(prepared.map((call) => this.decide(call, budget)))
        await adding
        const added = budget
          .step(() => this.add(decided))
          .catch((error: unknown) => {
            if (!(error instanceof Unanswered)) throw error
            away = error
            return decided.map((call) => this.notAdded(call, error))
          })
        adding = added.catch(() => {})
        chunks.push(added)
      } catch (error) {
        // No call of this chunk is added any more, whatever the script decides later: what it reserves is released.
        if (!(error instanceof Unanswered)) throw error
        away = error
        chunks.push(Promise.resolve(chunk.map((input) => unansweredCall(typeof input?.id === 'string' ? input.id : '', error, false))))
      }
    }
    const calls = (await Promise.all(chunks)).flat()
    return calls.map((call) => new Ticket(call.id, call.decision as Ticket['decision'], call.state === 'refused' ? call.error : undefined, this.parts.results))
  }

  private async prepare(input: Call): Promise<PreparedCall> {
    try {
      const valid = this.parts.scriptClient.resolver.withEndpoint(validateCall(input))
      // BullMQ would find a payload that is no JSON too late: when room is reserved already.
      jsonOf(valid.payload)
      const existing = await this.existingJob(valid)
      if (existing !== undefined) return { state: 'queued', id: existing }
      const stored = await this.inStoredMode(valid)
      const costs = await this.parts.scriptClient.resolver.costs(stored)
      const call = withEstimate(stored, costs)
      const id = call.id ?? randomUUID()
      return { state: 'prepared', id, request: callRequest(this.parts.scriptClient, recordId(this.parts.queue.name, id), '', call, costs) }
    } catch (error) {
      if (error instanceof TollgateError) return { state: 'refused', id: '', error }
      throw error
    }
  }

  /** A call that is tried again under its id may hold room already, in degraded mode: it goes on in that mode. */
  private async inStoredMode(call: Call): Promise<Call> {
    if (call.id === undefined || call.degraded === true) return call
    const stored = readRecord(await this.parts.scriptClient.recordOf(recordId(this.parts.queue.name, call.id)))?.call
    return stored?.degraded === true ? { ...call, degraded: true, model: stored.model } : call
  }

  /** The id of the job that this call's id or deduplication key stands for already. */
  private async existingJob({ id, deduplicationKey }: Call): Promise<string | undefined> {
    if (id !== undefined && (await this.parts.queue.getJob(id)) !== undefined) return id
    if (deduplicationKey === undefined) return undefined
    return (await this.parts.queue.getDeduplicationJobId(deduplicationKey)) ?? undefined
  }

  private async decide(call: PreparedCall, budget: Budget): Promise<DecidedCall> {
    if (call.state !== 'prepared') return call
    const { id } = call
    let answeredMs: number | undefined
    const send = async (request: CallRequest) => {
      // Between two decisions a strategy of the user's own ran, for which Redis is not to blame.
      if (answeredMs !== undefined) budget.extend(performance.now() - answeredMs)
      const decided = await this.send(request, budget)
      answeredMs = performance.now()
      return decided
    }
    try {
      const first = await send(call.request)
      const { request, decision } = first.decision.outcome === 'reject' ? await this.parts.strategyResolver.resolve(call.request, first.decision, send) : first
      switch (decision.outcome) {
        case 'run':
        case 'degrade':
        case 'wait':
        case 'hold':
          return { state: 'decided', id, request, decision, decidedMs: performance.now() }
        case 'reject':
        case 'expired':
          return { state: 'refused', id, error: rejection(decision), decision }
        default:
          throw new Error(`unknown outcome ${decision satisfies never}`)
      }
    } catch (error) {
      // A strategy of the user's own failed: for this call alone.
      if (error instanceof TollgateError) return { state: 'refused', id, error }
      throw error
    }
  }

  private async send(request: CallRequest, budget: Budget): Promise<ResolvedDecision> {
    let sent: Promise<Decision> | undefined
    try {
      const decision = await budget.step(() => {
        sent = this.batcher.add(request)
        return sent
      })
      return { request, decision }
    } catch (error) {
      // It may be decided after all: a place in line without a job would keep other calls waiting.
      void sent?.then(() => this.release(request)).catch(() => {})
      throw error
    }
  }

  private async release(request: CallRequest): Promise<void> {
    // The app may have enqueued it again under its id meanwhile.
    if (request.call.id !== undefined && (await this.parts.queue.getJob(request.call.id)) !== undefined) return
    await leave(this.parts.scriptClient, request)
  }

  /** A call whose job was not added, or may have been added: Redis did not answer. */
  private notAdded(call: DecidedCall, error: Unanswered): EnqueuedCall {
    if (call.state !== 'decided') return call
    if (!error.sent) void this.release(call.request).catch(() => {})
    return unansweredCall(call.id, error, true)
  }

  private async add(calls: readonly DecidedCall[]): Promise<EnqueuedCall[]> {
    const decided = calls.filter((call) => call.state === 'decided')
    const jobs =
      decided.length === 0 ? [] : await this.parts.queue.addBulk(decided.map(({ id, request, decision }, index) => this.job(id, request.call, decision, index)))
    await this.wakeForgotten(decided)
    let next = 0
    return Promise.all(
      calls.map(async (call): Promise<EnqueuedCall> => {
        if (call.state !== 'decided') return call
        const jobId = jobs[next++]?.id ?? call.id
        if (jobId === call.id) return { state: 'queued', id: call.id, decision: call.decision }
        // BullMQ deduplicated this job: return the ticket of the job that exists, and release the room reserved for this one.
        await leave(this.parts.scriptClient, call.request)
        return { state: 'queued', id: jobId }
      }),
    )
  }

  /**
   * Calls whose jobs were added so long after the decision that they may have been taken for calls without a job: those that stand in no line any more
   * go to a worker as new ones. If the process dies before that, they come back at their estimated time.
   */
  private async wakeForgotten(decided: readonly Extract<IncomingCall, { state: 'decided' }>[]): Promise<void> {
    const late = decided.filter(({ decision, decidedMs }) => decision.outcome === 'wait' && performance.now() - decidedMs > DEFAULTS.passGraceMs / 2)
    const records = await this.parts.scriptClient.recordsOf(late.map(({ request }) => request.id))
    for (const [index, { id }] of late.entries()) {
      if (records[index] !== null) continue
      // A negative answer of BullMQ: the job is on its way already.
      await new Job(this.parts.queue, '', null, {}, id).promote().catch(() => {})
    }
  }

  /** @param index its number among the calls that are added together: they came one after the other */
  private job(id: string, call: Call, decision: Decision, index: number) {
    const { deduplicationKey } = call
    const opts: CallJobOptions = {
      ...this.jobOptions,
      jobId: id,
      arrivedMs: decision.atMs + index / ADDED_AT_ONCE / 100,
      ...(decision.outcome === 'wait' ? { delay: delayMs(decision.etaMs) } : {}),
      ...(deduplicationKey === undefined ? {} : { deduplication: { id: deduplicationKey } }),
    }
    return { name: call.agent, data: call, opts }
  }
}

/** @param adding whether its job may have been sent, not only its request for a decision */
function unansweredCall(id: string, { message, cause, sent }: Unanswered, adding: boolean): EnqueuedCall {
  const maybeEnqueued = adding && sent
  const what = maybeEnqueued ? 'the call may have been enqueued after all: try again under the same id' : 'the call was not enqueued'
  const known = id === '' ? undefined : id
  const error = new StoreUnavailable(`${message}; ${what}`, { retryAfterMs: DEFAULTS.longestProbeMs, id: known, maybeEnqueued, cause })
  return { state: 'refused', id, error }
}
