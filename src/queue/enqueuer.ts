import { randomUUID } from 'node:crypto'
import type { JobsOptions, Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { type Call, jsonOf, validateCall } from '../call.js'
import { DEFAULTS } from '../config/defaults.js'
import { SECOND } from '../config/units.js'
import { COST_UNITS } from '../cost/units.js'
import type { RejectDecision, RunDecision, WaitDecision } from '../decision.js'
import { StoreUnavailable, TollgateError } from '../errors.js'
import { type AskedCall, weightOf } from '../gate/asked.js'
import type { Gate } from '../gate/gate.js'
import { rejection } from '../gate/rejection.js'
import { Turn } from '../gate/turn.js'
import { delayMs } from './delay.js'
import { type Impatience, Patience } from './patience.js'
import type { Results } from './results.js'
import { askFor, gateId } from './stored.js'
import { Ticket } from './ticket.js'

/** How many jobs are added to BullMQ in one round trip. */
const ADDED_AT_ONCE = 50

const JOB_OPTIONS: JobsOptions = {
  removeOnComplete: { age: DEFAULTS.keepResultsMs / SECOND },
  removeOnFail: { age: DEFAULTS.keepFailuresMs / SECOND },
}

/** The front door: validates, estimates, asks the gate, and adds the job as the gate says. */
export class Enqueuer {
  private readonly gate: Gate
  private readonly redis: Redis
  private readonly timeoutMs: number
  private readonly queue: Queue
  private readonly results: Results
  private readonly jobOptions: JobsOptions
  private readonly turn: Turn<AskedCall, RunDecision | WaitDecision | RejectDecision>

  /** @param parts.timeoutMs how long Redis may take for calls that travel together */
  constructor(parts: { gate: Gate; redis: Redis; queue: Queue; results: Results; attempts: number | undefined; timeoutMs: number }) {
    this.gate = parts.gate
    this.redis = parts.redis
    this.timeoutMs = parts.timeoutMs
    this.queue = parts.queue
    this.results = parts.results
    this.jobOptions = parts.attempts === undefined ? JOB_OPTIONS : { ...JOB_OPTIONS, attempts: parts.attempts, backoff: { type: 'exponential', delay: SECOND } }
    this.turn = new Turn<AskedCall, RunDecision | WaitDecision | RejectDecision>(
      DEFAULTS.batchKeys,
      weightOf,
      (asked) => this.gate.front(asked) as Promise<(RunDecision | WaitDecision | RejectDecision)[]>,
    )
  }

  /** @throws CallInvalid, RateLimitExceeded, StoreUnavailable; nothing is charged or enqueued then, but where the last says so */
  async enqueue(input: Call): Promise<Ticket> {
    const [ticket] = await this.enqueueMany([input])
    if (ticket?.error !== undefined) throw ticket.error
    return ticket as Ticket
  }

  /** One ticket each, in order; a refused one carries its `error`. */
  async enqueueMany(inputs: readonly Call[]): Promise<Ticket[]> {
    const parts: Promise<Ticket[]>[] = []
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
        const decided = await patience.answer(() => this.decide(prepared), failed)
        await adding
        const added = patience
          .answer(() => this.add(prepared, decided), failed)
          .then(
            () => decided,
            (error: unknown) => decided.map((ticket) => (ticket.error === undefined ? this.unanswered(ticket.id, error, true) : ticket)),
          )
        adding = added.catch(() => {})
        parts.push(added)
      } catch (error) {
        // Nothing is added any more, whatever the gate says later: what it promised goes back by itself.
        if (!(error instanceof Unanswered)) throw error
        parts.push(Promise.resolve(some.map((input) => this.unanswered(typeof input?.id === 'string' ? input.id : undefined, error, false))))
      }
    }
    return (await Promise.all(parts)).flat()
  }

  /** The ticket of a call of which nothing was heard. @throws any other error */
  private unanswered(id: string | undefined, error: unknown, adding: boolean): Ticket {
    if (!(error instanceof Unanswered)) throw error
    const { message, cause, sent } = error.why
    const maybeEnqueued = adding && sent
    const what = maybeEnqueued ? 'the call may have been enqueued after all: try again under the same id' : 'the call was not enqueued'
    return new Ticket(
      id ?? '',
      undefined,
      new StoreUnavailable(`${message}; ${what}`, { retryAfterMs: DEFAULTS.longestProbeMs, id, maybeEnqueued, cause }),
      this.results,
    )
  }

  private async prepare(input: Call): Promise<Prepared> {
    try {
      const call = validateCall(input)
      // BullMQ would find out when the gate has given room already.
      jsonOf(call.payload)
      if (call.id !== undefined && (await this.queue.getJob(call.id)) !== undefined) return new Ticket(call.id, undefined, undefined, this.results)
      const costs = await this.gate.costs(call)
      // Estimated once: the worker finds it in the job.
      const known = COST_UNITS.filter((unit) => costs[unit] > 0 && call.cost?.[unit] !== costs[unit]).map((unit) => [unit, costs[unit]])
      const told: Call = { ...call, cost: { ...call.cost, ...Object.fromEntries(known) } }
      return askFor(this.gate, gateId(this.queue.name, call.id ?? randomUUID()), '', told, costs)
    } catch (error) {
      if (error instanceof TollgateError) return new Ticket('', undefined, error, this.results)
      throw error
    }
  }

  // What if the process dies between the gate's answer and the job: whoever drains finds a
  // woken call without a job and gives its room back; the app never had an answer.
  private decide(prepared: readonly Prepared[]): Promise<Ticket[]> {
    return Promise.all(
      prepared.map(async (one) => {
        if (one instanceof Ticket) return one
        const decision = await this.turn.ask(one)
        const id = one.id.slice(this.queue.name.length + 1)
        return new Ticket(id, decision, decision.outcome === 'reject' ? rejection(decision) : undefined, this.results)
      }),
    )
  }

  private async add(prepared: readonly Prepared[], tickets: readonly Ticket[]): Promise<void> {
    const jobs = prepared.flatMap((one, index) => {
      const { id, decision, error } = tickets[index] as Ticket
      if (one instanceof Ticket || error !== undefined) return []
      const delay = decision?.outcome === 'wait' ? { delay: delayMs(decision.etaMs) } : {}
      return [{ name: one.call.agent, data: one.call, opts: { ...this.jobOptions, jobId: id, ...delay } }]
    })
    if (jobs.length > 0) await this.queue.addBulk(jobs)
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

/** A call for the gate, or the ticket of one that it need not be asked about: not valid, or enqueued before. */
type Prepared = AskedCall | Ticket
