import { randomUUID } from 'node:crypto'
import type { JobsOptions, Queue } from 'bullmq'
import { type Call, jsonOf, validateCall } from '../call.js'
import { DEFAULTS } from '../config/defaults.js'
import { SECOND } from '../config/units.js'
import { COST_UNITS } from '../cost/units.js'
import type { RejectDecision, RunDecision, WaitDecision } from '../decision.js'
import { TollgateError } from '../errors.js'
import { type AskedCall, weightOf } from '../gate/asked.js'
import type { Gate } from '../gate/gate.js'
import { rejection } from '../gate/rejection.js'
import { Turn } from '../gate/turn.js'
import { delayMs } from './delay.js'
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
  private readonly queue: Queue
  private readonly results: Results
  private readonly jobOptions: JobsOptions
  private readonly turn: Turn<AskedCall, RunDecision | WaitDecision | RejectDecision>

  constructor(parts: { gate: Gate; queue: Queue; results: Results; attempts: number | undefined }) {
    this.gate = parts.gate
    this.queue = parts.queue
    this.results = parts.results
    this.jobOptions = parts.attempts === undefined ? JOB_OPTIONS : { ...JOB_OPTIONS, attempts: parts.attempts, backoff: { type: 'exponential', delay: SECOND } }
    this.turn = new Turn<AskedCall, RunDecision | WaitDecision | RejectDecision>(
      DEFAULTS.batchKeys,
      weightOf,
      (asked) => this.gate.front(asked) as Promise<(RunDecision | WaitDecision | RejectDecision)[]>,
    )
  }

  /** @throws CallInvalid, RateLimitExceeded; nothing is charged or enqueued then */
  async enqueue(input: Call): Promise<Ticket> {
    const [ticket] = await this.enqueueMany([input])
    if (ticket?.error !== undefined) throw ticket.error
    return ticket as Ticket
  }

  /** One ticket each, in order; a refused one carries its `error`. */
  async enqueueMany(inputs: readonly Call[]): Promise<Ticket[]> {
    const tickets: Ticket[] = []
    let adding: Promise<unknown> = Promise.resolve()
    // A part at a time, one being decided while the one before is added: the first calls
    // start while the last are still on their way in.
    for (let from = 0; from < inputs.length; from += ADDED_AT_ONCE) {
      const prepared = await Promise.all(inputs.slice(from, from + ADDED_AT_ONCE).map((input) => this.prepare(input)))
      const decided = await this.decide(prepared)
      await adding
      adding = this.add(prepared, decided)
      adding.catch(() => {})
      tickets.push(...decided)
    }
    await adding
    return tickets
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

/** A call for the gate, or the ticket of one that it need not be asked about: not valid, or enqueued before. */
type Prepared = AskedCall | Ticket
