import { randomUUID } from 'node:crypto'
import type { JobsOptions, Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { rejection } from '../admission/rejection.js'
import { type CallRequest, weightOf } from '../admission/request.js'
import type { Call } from '../model/call.js'
import { COST_UNITS } from '../model/cost.js'
import type { Decision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable, TollgateError } from '../model/errors.js'
import { SECOND } from '../model/time.js'
import { type Impatience, Patience } from '../redis/bounded-wait.js'
import { Batcher } from '../store/redis/batcher.js'
import { readRecord } from '../store/redis/record.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { jsonOf, validateCall } from '../validation/call.js'
import { delayMs } from './job.js'
import { type Results, Ticket } from './results.js'
import { callRequest, leave, recordId } from './stored-call.js'
import type { ResolvedDecision, StrategyResolver } from './strategy-resolver.js'

/** How many jobs are added to BullMQ in one round trip. */
const ADDED_AT_ONCE = 50

const JOB_OPTIONS: JobsOptions = {
  removeOnComplete: { age: DEFAULTS.keepResultsMs / SECOND },
  removeOnFail: { age: DEFAULTS.keepFailuresMs / SECOND },
}

/** A call on its way in. */
interface EnqueueItem {
  /** That of its job; of the job that is there already; '' where the call is not valid. */
  readonly id: string
  /** Undefined where the gate need not be asked: it is not valid, or enqueued before. */
  readonly request?: CallRequest
  readonly decision?: Decision
  readonly error?: TollgateError
}

/** The front door: validates, estimates, asks the gate, and adds the job as the gate says. */
export class Enqueuer {
  private readonly scriptClient: ScriptClient
  private readonly redis: Redis
  private readonly timeoutMs: number
  private readonly queue: Queue
  private readonly results: Results
  private readonly strategyResolver: StrategyResolver
  private readonly jobOptions: JobsOptions
  private readonly turn: Batcher<CallRequest, Decision>

  /** @param parts.timeoutMs how long Redis may take for calls that travel together */
  constructor(parts: {
    scriptClient: ScriptClient
    redis: Redis
    queue: Queue
    results: Results
    strategyResolver: StrategyResolver
    attempts: number | undefined
    timeoutMs: number
  }) {
    this.scriptClient = parts.scriptClient
    this.redis = parts.redis
    this.timeoutMs = parts.timeoutMs
    this.queue = parts.queue
    this.results = parts.results
    this.strategyResolver = parts.strategyResolver
    this.jobOptions = parts.attempts === undefined ? JOB_OPTIONS : { ...JOB_OPTIONS, attempts: parts.attempts, backoff: { type: 'exponential', delay: SECOND } }
    this.turn = new Batcher<CallRequest, Decision>(DEFAULTS.batchKeys, weightOf, (requests) => this.scriptClient.enqueue(requests))
  }

  /** @throws CallInvalid, RateLimitExceeded, StoreUnavailable; nothing is charged or enqueued then, but where the last says so */
  async enqueue(input: Call): Promise<Ticket> {
    const [ticket] = await this.enqueueMany([input])
    if (ticket?.error !== undefined) throw ticket.error
    return ticket as Ticket
  }

  /** One ticket each, in order; a refused one carries its `error`. */
  async enqueueMany(inputs: readonly Call[]): Promise<Ticket[]> {
    const parts: Promise<EnqueueItem[]>[] = []
    let adding: Promise<unknown> = Promise.resolve()
    let away: Impatience | undefined
    // A part at a time, one being decided while the one before is added: the first calls
    // start while the last are still on their way in.
    for (let from = 0; from < inputs.length; from += ADDED_AT_ONCE) {
      const some = inputs.slice(from, from + ADDED_AT_ONCE)
      const patience = new Patience(this.redis, this.timeoutMs)
      const failed = (why: Impatience) => {
        away = why
        return new Unanswered(why)
      }
      try {
        // Once Redis was away the rest is not tried: each part would wait as long.
        if (away !== undefined) throw new Unanswered({ ...(away as Impatience), sent: false })
        const prepared = await patience.answer(() => Promise.all(some.map((input) => this.prepare(input))), failed)
        const decided = await Promise.all(prepared.map((one) => this.decide(one, patience, failed)))
        await adding
        const added = patience
          .answer(() => this.add(decided), failed)
          .catch((error: unknown) => Promise.all(decided.map((entrant) => this.notAdded(entrant, error))))
        adding = added.catch(() => {})
        parts.push(added)
      } catch (error) {
        // Nothing is added any more, whatever the gate says later: what it promised goes back.
        if (!(error instanceof Unanswered)) throw error
        parts.push(Promise.resolve(some.map((input) => unansweredItem(typeof input?.id === 'string' ? input.id : '', error, false))))
      }
    }
    const entered = (await Promise.all(parts)).flat()
    return entered.map(({ id, decision, error }) => new Ticket(id, decision as Ticket['decision'], error, this.results))
  }

  private async prepare(input: Call): Promise<EnqueueItem> {
    try {
      const given = validateCall(input)
      // BullMQ would find out when the gate has given room already.
      jsonOf(given.payload)
      const there = await this.enqueuedBefore(given)
      if (there !== undefined) return { id: there }
      const call = await this.asItStands(given)
      const costs = await this.scriptClient.costs(call)
      // Estimated once: the worker finds it in the job.
      const known = COST_UNITS.filter((unit) => costs[unit] > 0 && call.cost?.[unit] !== costs[unit]).map((unit) => [unit, costs[unit]])
      const told: Call = { ...call, cost: { ...call.cost, ...Object.fromEntries(known) } }
      const id = call.id ?? randomUUID()
      return { id, request: callRequest(this.scriptClient, recordId(this.queue.name, id), '', told, costs) }
    } catch (error) {
      if (error instanceof TollgateError) return { id: '', error }
      throw error
    }
  }

  /** One that is tried again under its id may hold room already, and in degraded mode. */
  private async asItStands(call: Call): Promise<Call> {
    if (call.id === undefined || call.degraded === true) return call
    const stored = readRecord(await this.scriptClient.recordOf(recordId(this.queue.name, call.id)))?.call
    return stored?.degraded === true ? { ...call, degraded: true, model: stored.model } : call
  }

  /** The id of the call that was enqueued under this one's id, or is on its way under its key. */
  private async enqueuedBefore({ id, deduplicationKey }: Call): Promise<string | undefined> {
    if (id !== undefined && (await this.queue.getJob(id)) !== undefined) return id
    if (deduplicationKey === undefined) return undefined
    return (await this.queue.getDeduplicationJobId(deduplicationKey)) ?? undefined
  }

  // What if the process dies between the gate's answer and the job: whoever drains finds a
  // woken call without a job and gives its room back; the app never had an answer.
  private async decide(entrant: EnqueueItem, patience: Patience, failed: (why: Impatience) => Error): Promise<EnqueueItem> {
    if (entrant.request === undefined) return entrant
    let answeredMs: number | undefined
    try {
      const { request, decision } = await this.strategyResolver.decide(entrant.request, async (one) => {
        // In between a strategy of the user's own may have taken its time.
        if (answeredMs !== undefined) patience.excuse(performance.now() - answeredMs)
        const answer = await this.askEnqueue(one, patience, failed)
        answeredMs = performance.now()
        return answer
      })
      const refused = decision.outcome === 'reject' || decision.outcome === 'expired'
      return { id: entrant.id, request, decision, ...(refused ? { error: rejection(decision) } : {}) }
    } catch (error) {
      // A strategy of the user's own failed: for this call alone.
      if (error instanceof TollgateError) return { id: entrant.id, error }
      throw error
    }
  }

  private async askEnqueue(request: CallRequest, patience: Patience, failed: (why: Impatience) => Error): Promise<ResolvedDecision> {
    let sent: Promise<Decision> | undefined
    const send = () => {
      sent = this.turn.ask(request)
      return sent
    }
    try {
      return { request, decision: await patience.answer(send, failed) }
    } catch (error) {
      // Decided after it was given up: a place without a job would keep others waiting.
      void sent?.then(() => this.takeBack(request)).catch(() => {})
      throw error
    }
  }

  private async takeBack(request: CallRequest): Promise<void> {
    // Under an id of its own it may have been enqueued meanwhile.
    if (request.call.id !== undefined && (await this.queue.getJob(request.call.id)) !== undefined) return
    await leave(this.scriptClient, request)
  }

  /** A call whose job was not added, or of which nobody knows whether it was. */
  private notAdded(entrant: EnqueueItem, error: unknown): EnqueueItem {
    if (entrant.error !== undefined || entrant.decision === undefined) return entrant
    const failed = unansweredItem(entrant.id, error, true)
    if (!(failed.error instanceof StoreUnavailable && failed.error.maybeEnqueued) && entrant.request !== undefined)
      void this.takeBack(entrant.request).catch(() => {})
    return failed
  }

  private async add(entrants: readonly EnqueueItem[]): Promise<EnqueueItem[]> {
    const adding = entrants.filter(({ request, error }) => request !== undefined && error === undefined)
    if (adding.length === 0) return [...entrants]
    const jobs = await this.queue.addBulk(adding.map((entrant) => this.job(entrant)))
    const others = new Map(adding.map((entrant, index) => [entrant, jobs[index]?.id ?? entrant.id]))
    return Promise.all(entrants.map((entrant) => this.entered(entrant, others.get(entrant) ?? entrant.id)))
  }

  private job({ id, request, decision }: EnqueueItem) {
    const call = (request as CallRequest).call
    const { deduplicationKey } = call
    const opts: JobsOptions = {
      ...this.jobOptions,
      jobId: id,
      ...(decision?.outcome === 'wait' ? { delay: delayMs(decision.etaMs) } : {}),
      ...(deduplicationKey === undefined ? {} : { deduplication: { id: deduplicationKey } }),
    }
    return { name: call.agent, data: call, opts }
  }

  /** Where another call with its key was faster, that one's is the ticket; what this one was promised goes back. */
  private async entered(entrant: EnqueueItem, jobId: string): Promise<EnqueueItem> {
    if (jobId === entrant.id || entrant.request === undefined) return entrant
    await leave(this.scriptClient, entrant.request)
    return { id: jobId }
  }
}

/** Redis did not answer in time. */
class Unanswered extends Error {
  readonly why: Impatience
  constructor(why: Impatience) {
    super(why.message, { cause: why.cause })
    this.why = why
  }
}

/** A call of which nothing was heard. @throws any other error */
function unansweredItem(id: string, error: unknown, adding: boolean): EnqueueItem {
  if (!(error instanceof Unanswered)) throw error
  const { message, cause, sent } = error.why
  const maybeEnqueued = adding && sent
  const what = maybeEnqueued ? 'the call may have been enqueued after all: try again under the same id' : 'the call was not enqueued'
  const known = id === '' ? undefined : id
  return { id, error: new StoreUnavailable(`${message}; ${what}`, { retryAfterMs: DEFAULTS.longestProbeMs, id: known, maybeEnqueued, cause }) }
}
