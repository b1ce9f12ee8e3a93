import { randomBytes, randomUUID } from 'node:crypto'
import type { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { Call } from '../model/call.js'
import { NOTHING } from '../model/cost.js'
import type { Decision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { TollgateError } from '../model/errors.js'
import { usageOfResult } from '../pricing/usage.js'
import { onAbort } from '../redis/bounded-wait.js'
import type { Keys } from '../redis/keys.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import type { Enqueuer } from './enqueuer.js'
import type { CallContext, WorkerOptions } from './handler.js'
import { callFailure, readRecord, recordId, restoredRequest } from './stored-call.js'
import type { Worker } from './worker.js'

/** Makes a held call, in the process that holds it. A `usage` in its result settles the estimate. */
export type HeldHandler<T> = (call: Call, context: CallContext) => Promise<T>

export interface RunOptions {
  /** Ends the wait of the call: it leaves its line. Once the handler was called it has no effect. */
  signal?: AbortSignal | undefined
  /** Is called once the call was accepted: with its id, for `explain` and `cancel`, and the decision. */
  accepted?: ((id: string, decision: Decision) => void) | undefined
}

interface HeldCall {
  readonly call: Call
  readonly handler: HeldHandler<unknown>
  readonly resolve: (result: unknown) => void
  readonly reject: (error: unknown) => void
  running: boolean
  /** What the handler threw last. */
  thrown: unknown
}

export interface HeldParts {
  readonly queue: string
  readonly redis: Redis
  readonly keys: Keys
  readonly log: Logger
  readonly enqueuer: Enqueuer
  readonly startWorker: (handler: (call: Call, context: CallContext) => Promise<unknown>, options: WorkerOptions) => Worker
  /** Takes a call out of its line, as `Tollgate.cancel` does. */
  readonly cancel: (id: string) => Promise<boolean>
  /** Takes the calls of the queue out of their lines, and removes the queue. */
  readonly giveUp: (queue: string) => Promise<void>
  /** Ends the waits for results. */
  readonly stop: () => void
}

const HELD_ID = /^(held-[0-9a-f]{12})\./

/** The queue of the process that holds the call of this id; undefined where no process holds it. */
export function heldQueueOf(id: unknown): string | undefined {
  return typeof id === 'string' ? HELD_ID.exec(id)?.[1] : undefined
}

export function newHeldQueue(): string {
  return `held-${randomBytes(6).toString('hex')}`
}

/**
 * Calls whose handler runs in the process that enqueues them: a server that holds the connection of a client.
 *
 * Model. Each process has a queue of its own in the namespace, so held calls stand in the same lines as all others, in the same order, and pauses,
 * `explain` and `cancel` find them. Their jobs hold no payload: that stays in the memory of the process, as does the handler.
 *
 *     run ── refused ──▶ rejected
 *      │
 *      ├──▶ waiting ── signal, cancel, deadline ──▶ rejected, nothing charged
 *      │      │  ▲
 *      │      ▼  └── 429, 503, 529: the call is back in its line
 *      └──▶ running ──▶ resolved or rejected, settled
 *
 * If the process dies: jobs wait in a queue that no process works, at places that other calls pass. Each process gives a sign of life every
 * `heldBeatMs`. After `heldSilenceMs` without one, any process of the namespace that works takes the calls out of their lines and removes the queue
 * (`sweepHeld`). Slots end with their leases, claims of woken calls by themselves; what a running call was charged stays charged.
 *
 * A process that sleeps for that long finds its waiting calls removed: each ends with CALL_CANCELLED. One that closes takes its waiting calls out of
 * their lines itself.
 */
export class HeldCalls {
  private readonly calls = new Map<string, HeldCall>()
  private readonly worker: Worker
  private readonly beats: NodeJS.Timeout
  /** The first sign of life: no call is enqueued before it, so that no queue exists that is not listed. */
  private readonly listed: Promise<void>
  private closed = false

  constructor(
    private readonly parts: HeldParts,
    options: WorkerOptions,
  ) {
    this.worker = parts.startWorker((call, context) => this.handle(call, context), { concurrency: DEFAULTS.heldConcurrency, ...options })
    this.worker.bull.on('failed', (job) => {
      if (job?.id !== undefined && job.finishedOn !== undefined) this.failed(job.id, job.failedReason)
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
   * @throws CallInvalid, RateLimitExceeded where it is refused; CALL_EXPIRED, CALL_CANCELLED; what the handler throws; the signal's reason
   */
  async run<T>(call: Call, handler: HeldHandler<T>, { signal, accepted }: RunOptions = {}): Promise<T> {
    signal?.throwIfAborted()
    if (this.closed) throw closedError()
    await this.listed
    const id = `${this.parts.queue}.${randomUUID()}`
    let leave = () => {}
    let watch: NodeJS.Timeout | undefined
    const result = new Promise<unknown>((resolve, reject) => {
      this.calls.set(id, { call, handler, resolve, reject, running: false, thrown: undefined })
    })
    // It may be rejected before the enqueue is answered.
    result.catch(() => {})
    try {
      const ticket = await this.parts.enqueuer.enqueue({ ...call, id })
      if (ticket.decision !== undefined) accepted?.(id, ticket.decision)
      if (signal !== undefined) {
        const abort = () => this.withdraw(id, signal.reason)
        leave = onAbort(signal, abort)
        if (signal.aborted) abort()
      }
      // Of a call that another process takes out of its line, the removed job is the only trace.
      const look = () => ticket.result().catch((error: unknown) => this.calls.get(id)?.reject(error))
      if (ticket.decision?.outcome === 'wait') void look()
      else watch = setTimeout(look, DEFAULTS.heldWatchMs)
      return (await result) as T
    } finally {
      clearTimeout(watch)
      leave()
      this.calls.delete(id)
    }
  }

  /** Takes the calls that wait out of their lines, waits for those that run, and removes the queue. @param gone Redis is out of reach: nothing is waited for */
  async close(gone: boolean): Promise<void> {
    this.closed = true
    clearInterval(this.beats)
    const waiting = [...this.calls].filter(([, { running }]) => !running)
    for (const [, { reject }] of waiting) reject(closedError())
    if (!gone) await Promise.all(waiting.map(([id]) => this.parts.cancel(id).catch(() => false)))
    await this.worker.close(gone)
    for (const { reject } of this.calls.values()) reject(closedError())
    if (gone) this.parts.stop()
    else await this.parts.giveUp(this.parts.queue)
  }

  /** Another process cancelled the call. */
  abort(id: string): void {
    this.worker.abort(id)
  }

  reconnected(): void {
    this.worker.reconnected()
  }

  private async handle(call: Call, context: CallContext): Promise<unknown> {
    const held = this.calls.get(context.id)
    // It was withdrawn while it started: its agent is not called, so it costs nothing.
    if (held === undefined) return { usage: NOTHING }
    if (held.running) throw new TollgateError('CALL_FAILED', 'this call runs already: its process stood still for too long')
    held.running = true
    try {
      const result = await held.handler({ ...call, payload: held.call.payload }, context)
      held.resolve(result)
      const usage = usageOfResult(result)
      return usage === undefined ? {} : { usage }
    } catch (error) {
      held.thrown = error
      throw error
    } finally {
      held.running = false
    }
  }

  private failed(id: string, reason: string): void {
    const held = this.calls.get(id)
    if (held === undefined) return
    const { thrown } = held
    const same = thrown instanceof TollgateError ? reason === `${thrown.code}: ${thrown.message}` : thrown instanceof Error && thrown.message === reason
    held.reject(same ? thrown : callFailure(reason))
  }

  /** Its caller waits no more. */
  private withdraw(id: string, reason: unknown): void {
    const held = this.calls.get(id)
    if (held === undefined || held.running) return
    this.calls.delete(id)
    held.reject(reason)
    this.parts.cancel(id).catch((error: unknown) => {
      if (!(error instanceof TollgateError && error.code === 'CALL_UNKNOWN'))
        this.parts.log.warn({ err: error, call: id }, 'a call whose caller left keeps its place')
    })
  }

  private async beat(): Promise<void> {
    const { redis, keys, queue } = this.parts
    const [seconds] = await redis.time()
    await redis
      .multi()
      .zadd(keys.held, Number(seconds) * 1000 + DEFAULTS.heldSilenceMs, queue)
      .pexpire(keys.held, DEFAULTS.heldListMs)
      .exec()
  }
}

function closedError(): TollgateError {
  return new TollgateError('CLOSED', 'this Tollgate was closed while the call was held')
}

/** Gives up the held calls of processes that gave no sign of life for `heldSilenceMs`. Two processes that do so at once do no harm. */
export async function sweepHeld(redis: Redis, keys: Keys, giveUp: (queue: string) => Promise<void>): Promise<void> {
  const [seconds] = await redis.time()
  for (const queue of await redis.zrange(keys.held, '-inf', String(Number(seconds) * 1000), 'BYSCORE', 'LIMIT', 0, 100)) await giveUp(queue)
}

/** Takes all calls of a queue of held calls out of their lines, then removes the queue. A call that had started stays charged. */
export async function giveUpHeld(scriptClient: ScriptClient, redis: Redis, queue: Queue): Promise<void> {
  const { keys } = scriptClient
  const ids = [
    ...(await redis.lrange(queue.toKey('wait'), 0, -1)),
    ...(await redis.lrange(queue.toKey('active'), 0, -1)),
    ...(await redis.zrange(queue.toKey('delayed'), '0', '-1')),
    ...(await redis.zrange(queue.toKey('prioritized'), '0', '-1')),
  ].map((id) => recordId(queue.name, id))
  for (const id of ids) {
    const record = await redis.get(keys.call(id))
    const stored = readRecord(record)
    if (stored !== null && stored.state !== 'started') await scriptClient.release(restoredRequest(scriptClient, id, record), stored.line)
  }
  await queue.obliterate({ force: true })
  await redis.zrem(keys.held, queue.name)
}
