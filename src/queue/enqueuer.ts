import { randomUUID } from 'node:crypto'
import { Job, type JobsOptions, type Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { idTaken } from '../admission/identity.js'
import { rejection } from '../admission/rejection.js'
import { type CallRequest, weightOf } from '../admission/request.js'
import type { Call } from '../model/call.js'
import type { Decision, WaitDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid, TollgateError } from '../model/errors.js'
import { SECOND } from '../model/time.js'
import { Budget, Unanswered } from '../redis/bounded-wait.js'
import { connectionOf, mayHaveForgotten } from '../redis/connection.js'
import { replicated } from '../redis/replicas.js'
import { Batcher } from '../store/redis/batcher.js'
import { type BareDecision, isBare } from '../store/redis/decoder.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import type { CallMetrics } from '../telemetry/call-metrics.js'
import { EnqueueTrace } from '../telemetry/tracing.js'
import { faultMessage, show } from '../validation/faults.js'
import type { CallNotes } from './call-notes.js'
import { ExistingJobs, Joined } from './existing-jobs.js'
import { explainStored } from './explain.js'
import {
  type DecidedCall,
  type EnqueuedCall,
  type IncomingCall,
  notValid,
  type PreparedCall,
  type TakenCall,
  takeCall,
  unansweredCall,
} from './incoming-call.js'
import type { QueueStates } from './queue-states.js'
import type { Results } from './results.js'
import { type CallJobOptions, callRequest, delayMs, leave, parseRecordId, readRecord, recordId, withEstimate } from './stored-call.js'
import type { ResolvedDecision, StrategyResolver } from './strategy-resolver.js'
import { Ticket } from './ticket.js'

/** How many jobs are added to BullMQ in one round trip. */
const ADDED_AT_ONCE = 50

const JOB_OPTIONS: JobsOptions = {
  removeOnComplete: { age: DEFAULTS.keepResultsMs / SECOND },
  removeOnFail: { age: DEFAULTS.keepFailuresMs / SECOND },
}

export interface EnqueuerParts {
  readonly scriptClient: ScriptClient
  readonly redis: Redis
  readonly queue: Queue
  readonly results: Results
  readonly queueStates: QueueStates
  readonly strategyResolver: StrategyResolver
  readonly notes?: CallNotes
  /** How often a call is tried whose handler fails. */
  readonly attempts: number | undefined
  /** The largest payload, in bytes of JSON. */
  readonly maxPayloadBytes: number
  /** How long Redis may take for the calls that are added together. */
  readonly timeoutMs: number
  /** Whether the rules of the namespace are known: not before Redis has been there, where the process has declared none. */
  readonly knowsRules?: () => boolean
  readonly metrics: CallMetrics
}

/**
 * Takes calls in: validates, estimates, has the script `enqueue` decide, and adds the job as decided.
 *
 * If the process dies between the decision and the job, the app has no answer, and Redis holds a pass or a place
 * in line without a job. The dispatcher finds it when the call is woken, and gives its room back.
 */
export class Enqueuer {
  private readonly jobOptions: JobsOptions
  private readonly batcher: Batcher<CallRequest, Decision | BareDecision>
  private readonly existing: ExistingJobs

  constructor(private readonly parts: EnqueuerParts) {
    const { attempts, scriptClient } = parts
    this.jobOptions = attempts === undefined ? JOB_OPTIONS : { ...JOB_OPTIONS, attempts, backoff: { type: 'exponential', delay: SECOND } }
    this.existing = new ExistingJobs(parts.queue, parts.redis)
    this.batcher = new Batcher<CallRequest, Decision | BareDecision>(DEFAULTS.batchKeys, weightOf, (requests) =>
      scriptClient.enqueue(requests, parts.queue.name),
    )
  }

  /** @throws CallInvalid, RateLimitExceeded, StoreUnavailable; nothing is charged or enqueued then, unless the last has `maybeEnqueued` */
  async enqueue(input: Call): Promise<Ticket> {
    const [ticket] = await this.enqueueMany([input])
    if (ticket?.error !== undefined) throw ticket.error
    return ticket as Ticket
  }

  /** One ticket each, in order; a refused one carries its `error`. */
  async enqueueMany(inputs: readonly Call[]): Promise<Ticket[]> {
    if (!Array.isArray(inputs)) throw new CallInvalid(faultMessage('calls', 'must be a list of calls', show(inputs)))
    // Before the first wait: the objects are their caller's, who may use them again.
    const taken = inputs.map((input) => takeCall(input, this.parts.scriptClient.resolver, this.parts.maxPayloadBytes))
    const chunks: Promise<EnqueuedCall[]>[] = []
    let adding: Promise<unknown> = Promise.resolve()
    let away: Unanswered | undefined
    // One chunk is decided while the chunk before it is added: the first calls start while the last are still on their way in.
    for (let from = 0; from < taken.length; from += ADDED_AT_ONCE) {
      const chunk = taken.slice(from, from + ADDED_AT_ONCE)
      const budget = new Budget(this.parts.redis, this.parts.timeoutMs)
      try {
        // Redis did not answer for an earlier chunk: the rest is not tried, since each chunk would wait as long.
        if (away !== undefined) throw new Unanswered(away.message, false, away.cause)
        if (this.parts.knowsRules?.() === false) throw new Unanswered('Redis is away, and the rules of the namespace are not known yet', false)
        const prepared = await budget.step(() => Promise.all(chunk.map((call) => this.prepare(call))))
        const decided = await Promise.all(prepared.map((call) => this.decide(call, budget)))
        await adding
        const added = budget
          .step(() => this.add(decided))
          .catch((error: unknown) => {
            if (!(error instanceof Unanswered)) throw error
            away = error
            this.parts.metrics.cells.add('storeErrors', 1)
            return decided.map((call) => this.notAdded(call, error))
          })
        adding = added.catch(() => {})
        chunks.push(added)
      } catch (error) {
        // No call of this chunk is added any more, whatever the script decides later: what it reserves is released.
        if (!(error instanceof Unanswered)) throw error
        away = error
        chunks.push(Promise.resolve(chunk.map((one) => (one instanceof TollgateError ? notValid(one) : unansweredCall(one.call.id ?? '', error, false)))))
      }
    }
    const calls = (await Promise.all(chunks)).flat()
    return calls.map((call) => {
      const [error, identity] = call.state === 'refused' ? [call.error, undefined] : [undefined, call.identity]
      return new Ticket(call.id, call.decision as Ticket['decision'], error, this.parts.results, identity)
    })
  }

  private async prepare(taken: TakenCall | TollgateError): Promise<PreparedCall> {
    if (taken instanceof TollgateError) return notValid(taken)
    const { call: valid, identity } = taken
    try {
      const existing = await this.existing.find(valid, identity)
      if (existing !== undefined) return { state: 'queued', id: existing, identity }
      const stored = await this.inStoredMode(valid, identity)
      const costs = await this.parts.scriptClient.resolver.costs(stored)
      const call = withEstimate(stored, costs)
      const id = call.id ?? randomUUID()
      const request = callRequest(this.parts.scriptClient, recordId(this.parts.queue.name, id), '', call, costs)
      return { state: 'prepared', id, request: { ...request, identity, given: stored.cost ?? {} } }
    } catch (error) {
      if (error instanceof TollgateError) return notValid(error, error instanceof CallInvalid ? '' : valid.id)
      throw error
    }
  }

  /** A call that is tried again under its id may hold room already, in degraded mode: it goes on in that mode. */
  private async inStoredMode(call: Call, identity: string): Promise<Call> {
    if (call.id === undefined || call.degraded === true) return call
    const record = readRecord(await this.parts.scriptClient.recordOf(recordId(this.parts.queue.name, call.id)))
    return record?.call?.degraded === true && record.identity === identity ? { ...call, degraded: true, model: record.call.model } : call
  }

  private async decide(call: PreparedCall, budget: Budget): Promise<DecidedCall> {
    if (call.state !== 'prepared') return call
    const { id, request: asked } = call
    const { identity } = asked
    const trace = EnqueueTrace.begin(this.parts.queue.name, id, asked.call)
    let answeredMs: number | undefined
    const send = async (request: CallRequest) => {
      // Between two decisions a strategy of the user's own ran, for which Redis is not to blame.
      if (answeredMs !== undefined) budget.extend(performance.now() - answeredMs)
      const sentMs = performance.now()
      const decided = await this.send(request, budget)
      this.parts.metrics.decided('enqueue', request, decided.decision, sentMs)
      if (answeredMs === undefined) this.parts.notes?.decided(request, decided.decision, performance.now() - sentMs)
      answeredMs = performance.now()
      return decided
    }
    try {
      const first = await send(asked)
      const { request, decision } = first.decision.outcome === 'reject' ? await this.parts.strategyResolver.resolve(asked, first.decision, send) : first
      trace?.decided(decision)
      switch (decision.outcome) {
        case 'run':
        case 'degrade':
        case 'hold':
        case 'wait': {
          const at = { decidedMs: performance.now(), connection: connectionOf(this.parts.redis) }
          const known = decision.outcome === 'wait' ? await budget.step(() => this.withReason(request, decision)) : decision
          return { state: 'decided', id, request: { ...request, identity }, decision: known, ...at, trace }
        }
        case 'reject':
        case 'expired': {
          const error = rejection(decision, { ...request, ownEstimate: this.parts.scriptClient.resolver.ownEstimate })
          trace?.end(error)
          return { state: 'refused', id, error, decision }
        }
        default:
          throw new Error(`unknown outcome ${decision satisfies never}`)
      }
    } catch (error) {
      trace?.end(error instanceof Joined ? undefined : error)
      if (error instanceof Joined) return { state: 'queued', id, identity }
      // Another call has its id, or a strategy of the user's own failed: for this call alone.
      if (error instanceof TollgateError) return { state: 'refused', id, error }
      throw error
    }
  }

  private async send(request: CallRequest, budget: Budget): Promise<ResolvedDecision> {
    let sent: Promise<Decision | BareDecision> | undefined
    try {
      const decision = await budget.step(() => {
        sent = this.batcher.add(request)
        return sent
      })
      return { request, decision: await this.ownDecision(request, decision) }
    } catch (error) {
      if (error instanceof TollgateError || error instanceof Joined) throw error
      // It may be decided after all: a place in line without a job would keep other calls waiting.
      void sent?.then(() => this.release(request)).catch(() => {})
      throw error
    }
  }

  /** What no meter says: why the queue takes no calls; and of a call that was enqueued before, how it stands now. */
  private async withReason({ id }: CallRequest, decision: WaitDecision): Promise<WaitDecision> {
    if (decision.binding !== null) return decision
    const { scriptClient, redis, queue, queueStates } = this.parts
    if (decision.waitsFor !== null) return Object.assign(decision, { waitsFor: (await queueStates.reason(queue.name)) ?? decision.waitsFor })
    const record = await scriptClient.recordOf(id)
    if (readRecord(record)?.state !== 'waiting') return decision
    const [now] = await explainStored({ scriptClient, redis, queueStates }, [{ id, record: record as string }])
    return now === undefined ? decision : Object.assign(decision, { etaMs: now.etaMs, etaMaxMs: now.etaMaxMs, binding: now.binding, waitsFor: now.waitsFor })
  }

  /** @throws Joined, ID_TAKEN */
  private async ownDecision({ id, call, identity = '' }: CallRequest, decision: Decision | BareDecision): Promise<Decision> {
    if (!isBare(decision)) return decision
    const { jobId } = parseRecordId(id)
    if (decision.outcome === 'taken') throw idTaken(jobId)
    if (decision.outcome === 'joined') {
      await this.existing.joins(jobId, call, identity)
      throw new Joined()
    }
    throw new Error(`the front door was answered "${decision.outcome}"`)
  }

  private async release(request: CallRequest): Promise<void> {
    // The app may have enqueued it again under its id meanwhile.
    if (request.call.id !== undefined && (await this.parts.queue.getJob(request.call.id)) !== undefined) return
    await leave(this.parts.scriptClient, request)
  }

  /** A call whose job was not added, or may have been added: Redis did not answer. */
  private notAdded(call: DecidedCall, error: Unanswered): EnqueuedCall {
    if (call.state !== 'decided') return call
    call.trace?.end(error)
    if (!error.sent) void this.release(call.request).catch(() => {})
    return unansweredCall(call.id, error, true)
  }

  private async add(calls: readonly DecidedCall[]): Promise<EnqueuedCall[]> {
    const decided = calls.filter((call) => call.state === 'decided')
    const jobs = decided.length === 0 ? [] : await this.parts.queue.addBulk(decided.map((call, index) => this.job(call, index)))
    if (decided.length > 0) await replicated(this.parts.redis)
    await this.wakeForgotten(decided)
    let next = 0
    return Promise.all(
      calls.map(async (call): Promise<EnqueuedCall> => {
        if (call.state !== 'decided') return call
        call.trace?.end()
        return this.added(call, jobs[next++]?.id ?? call.id)
      }),
    )
  }

  /** @param jobId where BullMQ has deduplicated the job, that of the job that exists: the call gets its ticket, and its own room is released */
  private async added({ id, request, decision }: Extract<DecidedCall, { state: 'decided' }>, jobId: string): Promise<EnqueuedCall> {
    const { call, identity } = request
    try {
      if (jobId !== id) {
        await leave(this.parts.scriptClient, request)
        await this.existing.assertDuplicate(jobId, call, identity)
        return { state: 'queued', id: jobId, identity }
      }
      // Only under an id that was given can there have been a job.
      if (call.id !== undefined && (await this.existing.hasEnded(id, call, identity))) await leave(this.parts.scriptClient, request)
      return { state: 'queued', id, identity, decision }
    } catch (error) {
      if (!(error instanceof TollgateError)) throw error
      await leave(this.parts.scriptClient, request)
      return { state: 'refused', id, error }
    }
  }

  /**
   * Calls whose jobs were added so long after the decision that they may have been taken for calls without a job, or after a failover that may have
   * forgotten the decision: those that stand in no line any more go to a worker as new ones. If the process dies before that, they come back when their
   * longest wait is over.
   */
  private async wakeForgotten(decided: readonly Extract<IncomingCall, { state: 'decided' }>[]): Promise<void> {
    const { scriptClient, redis } = this.parts
    const late = decided.filter(
      ({ decision, decidedMs, connection }) =>
        decision.outcome === 'wait' && (performance.now() - decidedMs > DEFAULTS.passGraceMs / 2 || mayHaveForgotten(redis, connection)),
    )
    const records = await scriptClient.recordsOf(late.map(({ request }) => request.id))
    for (const [index, { id }] of late.entries()) {
      if (records[index] !== null) continue
      // A negative answer of BullMQ: the job is on its way already.
      await new Job(this.parts.queue, '', null, {}, id).promote().catch(() => {})
    }
  }

  /** @param index its number among the calls that are added together: they came one after the other */
  private job({ id, request: { call, identity, allowed }, decision, trace }: Extract<DecidedCall, { state: 'decided' }>, index: number) {
    const carrier = trace?.carrier
    const { deduplicationKey } = call
    const opts: CallJobOptions = {
      ...this.jobOptions,
      identity,
      ...(allowed === undefined ? {} : { allowed }),
      ...(carrier === undefined ? {} : { trace: carrier }),
      jobId: id,
      arrivedMs: decision.atMs + index / ADDED_AT_ONCE / 100,
      ...(decision.outcome === 'wait' ? { delay: delayMs(decision.etaMaxMs) } : {}),
      ...(deduplicationKey === undefined ? {} : { deduplication: { id: deduplicationKey } }),
    }
    return { name: call.agent, data: call, opts }
  }
}
