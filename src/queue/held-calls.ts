import { randomUUID } from 'node:crypto'
import { DelayedError, Job, type JobsOptions, type Queue, UnrecoverableError } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { rejection } from '../admission/rejection.js'
import type { Call } from '../model/call.js'
import { NOTHING } from '../model/cost.js'
import type { RejectDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { StoreUnavailable, TollgateError } from '../model/errors.js'
import { LONGEST_TIMER_MS, SECOND } from '../model/time.js'
import { usageOfResult } from '../pricing/usage.js'
import { onAbort, within } from '../redis/bounded-wait.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { activeCarrier, type TraceCarrier } from '../telemetry/tracing.js'
import { validateCall } from '../validation/call.js'
import { bareExplanation, type Explanation } from './explain.js'
import type { CallContext, WorkerOptions } from './handler.js'
import { isPutElsewhere, readableError } from './handler-outcome.js'
import { giveUpHeld } from './held-queue.js'
import type { Results } from './results.js'
import { type AttemptJob, callFailure, finalFailure, withEstimate } from './stored-call.js'
import type { Worker } from './worker.js'

/** Makes a held call, in the process that holds it. A `usage` in its result settles the estimate. */
export type HeldHandler<T> = (call: Call, context: CallContext) => Promise<T>

export interface RunOptions {
  /** Ends the wait of the call: it leaves its line. While the handler runs it has no effect. */
  signal?: AbortSignal | undefined
  /**
   * Is called where the call has to wait, with its id (for `explain` and `cancel`), and with a function that ends its wait as the signal does; again where
   * its agent sends it back to its line.
   */
  waiting?: ((id: string, leave: (reason: unknown) => void) => void) | undefined
}

interface HeldCall extends RunOptions {
  readonly call: Call
  readonly handler: HeldHandler<unknown>
  /** The trace that its caller is in. */
  readonly trace: { readonly trace?: TraceCarrier }
  resolve: (result: unknown) => void
  reject: (error: unknown) => void
  /** waiting: in line. held: here, while Redis is away. */
  state: 'starting' | 'held' | 'waiting' | 'running'
  /** Ends the wait of a held call whose deadline passes. */
  patience: NodeJS.Timeout | undefined
  /** How often the handler was called. */
  attempts: number
  /** What the handler threw last. */
  thrown: unknown
}

export interface HeldParts {
  readonly queue: Queue
  readonly redis: Redis
  readonly scriptClient: ScriptClient
  readonly results: Results
  readonly log: Logger
  /** How often the handler is called that fails with what may pass. */
  readonly attempts: number
  /** How long Redis may take to decide on a call. */
  readonly timeoutMs: number
  /** Whether Redis is out of reach now. */
  readonly gone: () => boolean
  readonly startWorker: (handler: (call: Call, context: CallContext) => Promise<unknown>, options: WorkerOptions) => Worker
  /** Takes a call out of its line, as `Tollgate.cancel` does. */
  readonly cancel: (id: string) => Promise<boolean>
}

/** Jobs of held calls exist while they wait: none is kept. */
const JOB_OPTIONS: JobsOptions = { removeOnComplete: true, removeOnFail: true, backoff: { type: 'exponential', delay: SECOND } }
/** Errors by which a processor tells BullMQ what to do with its job. */
const CONTROL_ERRORS: ReadonlySet<string> = new Set(['DelayedError', 'WaitingError', 'WaitingChildrenError', 'RateLimitError', 'UnrecoverableError'])
/** Of so many calls that ended here `explain` still knows how. */
const ENDED_KEPT = 1000
const NO_TRACE = Object.freeze({})

/**
 * Calls whose handler runs in the process that brings them: a server that holds the connection of a client.
 *
 * Model. A held call is sent to the start script at once, as a worker does it, without a job: where there is room that is all it costs. Where it has to
 * wait it stands in the same lines as all other calls, in the same order, and gets a job in a queue that this process alone works: the dispatcher
 * promotes that job when there is room, and pauses, `explain` and `cancel` find it. Jobs hold no payload: that stays in the memory of the process.
 *
 *     run ── start script ── room ──▶ running ──▶ resolved or rejected, settled
 *                 │    │                 │  ▲
 *         refused │    │ no room     429 │  │ woken
 *                 ▼    ▼                 ▼  │
 *            rejected  └───────────▶ waiting ── signal, cancel, deadline ──▶ rejected, nothing charged
 *
 * If the process dies: jobs wait in a queue that no process works, at places that other calls pass; a place whose job was not added yet is dropped when
 * it is woken. Each process gives a sign of life every `heldBeatMs`. After `heldSilenceMs` without one, any process of the namespace that works takes
 * the calls out of their lines and removes the queue (`sweepHeld`). Slots end with their leases, claims of woken calls by themselves; what a running
 * call was charged stays charged.
 *
 * A process that sleeps for that long finds its waiting calls removed: each ends with CALL_CANCELLED. One that closes takes its waiting calls out of
 * their lines itself.
 */
export class HeldCalls {
  private readonly calls = new Map<string, HeldCall>()
  private readonly ended = new Map<string, Explanation>()
  /** Attempts of calls without a job. */
  private readonly direct = new Set<Promise<unknown>>()
  private readonly worker: Worker
  private readonly beats: NodeJS.Timeout
  /** The first sign of life: no call is taken before it, so that no queue exists that is not listed. */
  private listed: Promise<void>
  private closed = false
  /** The handlers that run. */
  private readonly handling = new Set<Promise<unknown>>()

  constructor(
    private readonly parts: HeldParts,
    options: WorkerOptions,
  ) {
    this.worker = parts.startWorker((call, context) => this.handle(call, context), { concurrency: DEFAULTS.heldConcurrency, ...options })
    this.worker.bull.on('failed', (job, error) => {
      if (job?.id !== undefined && job.finishedOn !== undefined) this.fail(job.id, error)
    })
    this.listed = this.beat()
    this.listed.catch(() => {})
    this.beats = setInterval(() => {
      this.beat().catch((error: unknown) => parts.log.warn({ err: error }, 'the sign of life for held calls failed; it is tried again'))
    }, DEFAULTS.heldBeatMs)
    this.beats.unref()
  }

  /** How many calls are held now. */
  get size(): number {
    return this.calls.size
  }

  /**
   * Runs `handler` in this process when the call may start; until then the call waits in line.
   * @throws CallInvalid, RateLimitExceeded where it is refused; CALL_EXPIRED, CALL_CANCELLED; StoreUnavailable; what the handler throws; the signal's reason
   */
  async run<T>(input: Call, handler: HeldHandler<T>, { signal, waiting }: RunOptions = {}): Promise<T> {
    signal?.throwIfAborted()
    if (this.closed) throw closedError()
    const { queue, scriptClient, gone } = this.parts
    const call = scriptClient.resolver.withEndpoint(validateCall(input))
    const id = `${queue.name}.${randomUUID()}`
    const costs = scriptClient.resolver.costs(call)
    const estimated = withEstimate(call, costs instanceof Promise ? await costs : costs)
    const carrier = activeCarrier()
    const trace = carrier === undefined ? NO_TRACE : { trace: carrier }
    if (!gone()) await this.isListed()
    const held: HeldCall = {
      ...{ call, handler, trace, signal, waiting, resolve: noop, reject: noop },
      ...{ state: 'starting', patience: undefined, attempts: 0, thrown: undefined },
    }
    const result = new Promise<unknown>((resolve, reject) => {
      held.resolve = resolve
      held.reject = reject
      this.calls.set(id, held)
    })
    const leave = signal === undefined ? undefined : onAbort(signal, () => this.withdraw(id, signal.reason))
    try {
      this.start(id, { ...estimated, id: undefined, payload: undefined })
      return (await result) as T
    } finally {
      leave?.()
      clearTimeout(held.patience)
      this.calls.delete(id)
    }
  }

  /** No job is added before the queue is listed. Where Redis refused the first sign, each call tries again. */
  private isListed(): Promise<void> {
    this.listed = this.listed.catch(() => this.beat())
    return this.listed
  }

  /** Where a call stands that runs here, or ended here a short while ago; undefined where another place knows it better. */
  explain(id: string): Explanation | undefined {
    if (this.calls.get(id)?.state === 'running') return bareExplanation(id, 'running')
    return this.ended.get(id)
  }

  /** Cancels a call that runs here, or is about to. Returns false where it waits or is not here. */
  cancel(id: string): boolean {
    const held = this.calls.get(id)
    if (held === undefined || held.state === 'waiting') return false
    this.worker.abort(id)
    return true
  }

  /**
   * A note that the processes of the namespace share: which of them holds a call. It is written if it is still as it was.
   * @param was '' = none @throws StoreUnavailable
   */
  async share(name: string, was: string, becomes: string, keepMs: number): Promise<{ readonly written: boolean; readonly state: string }> {
    const { scriptClient, gone, timeoutMs } = this.parts
    if (gone()) throw away()
    return within(timeoutMs, scriptClient.compareAndSet(scriptClient.keys.heldBy(name), was, becomes, keepMs))
  }

  reconnected(): void {
    this.worker.reconnected()
  }

  /** Takes the calls that wait out of their lines, waits for those that run, and removes the queue. @param gone Redis is out of reach: nothing is waited for */
  async close(gone: boolean): Promise<void> {
    const { redis, scriptClient, queue, results } = this.parts
    this.closed = true
    clearInterval(this.beats)
    for (const [id, { state }] of this.calls) if (state !== 'running') this.withdraw(id, closedError())
    await (gone ? Promise.allSettled(this.handling) : Promise.all(this.direct))
    await this.worker.close(gone)
    for (const { reject } of this.calls.values()) reject(closedError())
    if (gone) return results.stop()
    await results.close()
    await giveUpHeld(scriptClient, redis, queue)
  }

  /** Sends a call to the start script, without a job. */
  private start(id: string, call: Call): void {
    const late = setTimeout(() => {
      if (this.calls.get(id)?.state === 'starting') this.worker.abort(id, away())
    }, this.parts.timeoutMs)
    const made = this.worker
      .attempt(this.jobless(id, call))
      .then(
        () => {},
        async (error: unknown) => {
          if (error instanceof DelayedError && this.calls.get(id)?.thrown !== error) this.waits(id)
          else if (error instanceof UnrecoverableError || this.parts.attempts < 2 || this.closed || this.parts.gone()) this.fail(id, error)
          else await this.tryAgain(id, call)
        },
      )
      .catch((error: unknown) => this.fail(id, error))
      .finally(() => {
        clearTimeout(late)
        this.direct.delete(made)
      })
    this.direct.add(made)
  }

  /** Stands for the job of a call that has none. Where the call has to wait it becomes one. */
  private jobless(id: string, call: Call): AttemptJob {
    const { queue, attempts, gone } = this.parts
    const { trace = NO_TRACE } = this.calls.get(id) ?? {}
    const isListed = () => this.isListed()
    return {
      id,
      name: call.agent,
      data: call,
      checked: true,
      queueName: queue.name,
      timestamp: Date.now(),
      attemptsMade: 0,
      // What waits here while Redis is away joins its line in the order of arrival.
      stalledCounter: gone() ? 1 : 0,
      refusedHere: (decision) => this.holdHere(id, decision),
      opts: trace,
      async updateData(data: Call) {
        this.data = data
      },
      async moveToDelayed(atMs: number) {
        await isListed()
        await queue.add(this.name, this.data, { ...JOB_OPTIONS, ...trace, attempts, jobId: id, delay: Math.max(0, atMs - Date.now()) })
      },
      promote: () => new Job(queue, '', null, {}, id).promote(),
    }
  }

  /** The handler failed with what may pass: the call starts again a second later, by a job. */
  private async tryAgain(id: string, call: Call): Promise<void> {
    const held = this.calls.get(id)
    if (held === undefined) return
    held.state = 'waiting'
    const { queue, attempts } = this.parts
    await queue.add(call.agent, call, { ...JOB_OPTIONS, ...held.trace, attempts: attempts - 1, jobId: id, delay: SECOND })
  }

  /** Redis is away, and this process has no room for a call: it waits here, until there is, or Redis is back. @throws where its strategy is not to wait */
  private holdHere(id: string, decision: RejectDecision): void {
    const held = this.calls.get(id)
    if (held === undefined || held.state === 'held') return
    if (!this.isWaitedFor(decision, held.call)) throw finalFailure(rejection(decision))
    held.state = 'held'
    held.patience ??= setTimeout(() => {
      if (held.state === 'held') this.withdraw(id, new TollgateError('CALL_EXPIRED', 'the deadline of the call passed before it could start'))
    }, patienceOf(held.call))
    held.waiting?.(id, (reason) => this.withdraw(id, reason))
  }

  /** As in the lines: a call waits for room where the strategy is to wait. */
  private isWaitedFor({ reason, binding }: RejectDecision, call: Call): boolean {
    if (reason === 'paused') return true
    const rule = this.parts.scriptClient.resolver.rules.specs.find(({ name }) => name === binding.rule)
    const strategy = call.strategy ?? rule?.strategy
    return reason === 'limited' && strategy !== 'hard' && strategy !== 'retry_after'
  }

  private waits(id: string): void {
    const held = this.calls.get(id)
    if (held === undefined) {
      // Its caller left while it was put in line.
      this.takeOut(id)
      return
    }
    held.state = 'waiting'
    // Of a call that another process takes out of its line, the removed job is the only trace.
    this.parts.results.wait(id, held.signal === undefined ? {} : { signal: held.signal }).catch((error: unknown) => {
      if (held.signal?.aborted !== true && held.state === 'waiting') this.calls.get(id)?.reject(error)
    })
    held.waiting?.(id, (reason) => this.withdraw(id, reason))
  }

  private async handle(call: Call, context: CallContext): Promise<unknown> {
    const held = this.calls.get(context.id)
    // It was withdrawn while it started: its agent is not called, so it costs nothing.
    if (held === undefined) return { usage: NOTHING }
    if (held.state === 'running') throw new TollgateError('CALL_FAILED', 'this call runs already: its process stood still for too long')
    held.state = 'running'
    const attempt = ++held.attempts
    try {
      const made = (async () => held.handler({ ...call, payload: held.call.payload }, Object.defineProperty(context, 'attempt', { value: attempt })))()
      this.handling.add(made)
      const result = await made.finally(() => this.handling.delete(made))
      held.resolve(result)
      this.remember(context.id, 'done', null)
      const usage = usageOfResult(result)
      return usage === undefined ? {} : { usage }
    } catch (error) {
      held.thrown = error
      if (!(error instanceof Error && CONTROL_ERRORS.has(error.name))) throw error
      // It is meant for the caller's own job, not for that of the held call.
      held.reject(error)
      throw Object.assign(new UnrecoverableError(error.message), isPutElsewhere(error) ? { usage: NOTHING } : {})
    } finally {
      held.state = 'waiting'
    }
  }

  /** @param error as BullMQ keeps it: the code stands in its text */
  private fail(id: string, error: unknown): void {
    const held = this.calls.get(id)
    if (held === undefined) return
    const { cause } = error as { cause?: unknown }
    const message = error instanceof Error ? error.message : readableError(error).message
    const { thrown } = held
    const own = error === thrown || (thrown instanceof Error && thrown.message === message)
    held.reject(own ? thrown : cause instanceof TollgateError ? cause : callFailure(message))
    this.remember(id, 'failed', message)
  }

  private remember(id: string, state: 'done' | 'failed', reason: string | null): void {
    if (this.ended.size >= ENDED_KEPT) this.ended.delete(this.ended.keys().next().value as string)
    this.ended.set(id, bareExplanation(id, state, reason))
  }

  /** Its caller waits no more. */
  private withdraw(id: string, reason: unknown): void {
    const held = this.calls.get(id)
    if (held === undefined || held.state === 'running') return
    this.calls.delete(id)
    held.reject(reason)
    if (held.state === 'waiting') this.takeOut(id)
    else this.worker.abort(id)
  }

  private takeOut(id: string): void {
    const out: Promise<unknown> = this.parts
      .cancel(id)
      .catch((error: unknown) => {
        if (!(error instanceof TollgateError && error.code === 'CALL_UNKNOWN'))
          this.parts.log.warn({ err: error, call: id }, 'a call whose caller left keeps its place')
      })
      .finally(() => this.direct.delete(out))
    this.direct.add(out)
  }

  private async beat(): Promise<void> {
    const { redis, scriptClient, queue } = this.parts
    const [seconds] = await redis.time()
    const { held } = scriptClient.keys
    await redis
      .multi()
      .zadd(held, Number(seconds) * 1000 + DEFAULTS.heldSilenceMs, queue.name)
      .pexpire(held, DEFAULTS.heldListMs)
      .exec()
  }
}

function noop(): void {}

function patienceOf({ maxWaitMs = LONGEST_TIMER_MS, deadline }: Call): number {
  const untilDeadlineMs = deadline === undefined ? LONGEST_TIMER_MS : new Date(deadline).getTime() - Date.now()
  return Math.max(0, Math.min(maxWaitMs, untilDeadlineMs, LONGEST_TIMER_MS))
}

function closedError(): TollgateError {
  return new TollgateError('CLOSED', 'this Tollgate was closed while the call was held')
}

function away(): StoreUnavailable {
  return new StoreUnavailable('Redis is away, and it is not known whether there is room', { retryAfterMs: DEFAULTS.storeRetryAfterMs })
}
