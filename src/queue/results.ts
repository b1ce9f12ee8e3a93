import { type Queue, QueueEvents } from 'bullmq'
import type { Redis } from 'ioredis'
import type { DegradeDecision, ExpiredDecision, RejectDecision, RunDecision, WaitDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { TollgateError } from '../model/errors.js'
import { callFailure } from './job.js'

interface ResultWaiter {
  resolve(value: unknown): void
  reject(error: unknown): void
  sinceMs: number
}

/** Hands the results of finished calls to those who wait for them: one event stream per process, whoever many wait. */
export class Results {
  private readonly queue: Queue
  private readonly redis: Redis
  private readonly waiters = new Map<string, Set<ResultWaiter>>()
  private events: QueueEvents | undefined
  /** BullMQ blocks on it: nothing else may use it. */
  private blocking: Redis | undefined
  private ready: Promise<unknown> | undefined
  private recheck: NodeJS.Timeout | undefined

  constructor(queue: Queue, redis: Redis) {
    this.queue = queue
    this.redis = redis
  }

  async wait(jobId: string, signal?: AbortSignal): Promise<unknown> {
    signal?.throwIfAborted()
    await unlessAborted(this.listen(), signal)
    const result = new Promise<unknown>((resolve, reject) => {
      const waiter: ResultWaiter = { resolve, reject, sinceMs: Date.now() }
      const of = this.waiters.get(jobId) ?? new Set()
      this.waiters.set(jobId, of.add(waiter))
      signal?.addEventListener(
        'abort',
        () => {
          of.delete(waiter)
          if (of.size === 0) this.waiters.delete(jobId)
          reject(signal.reason)
        },
        { once: true },
      )
    })
    // It may fail while it is looked up, before anybody but us can hear of it.
    result.catch(() => {})
    // It may have finished before we listened.
    await this.lookUp([jobId], false)
    return result
  }

  /** Ends the wait for a call that was taken back; BullMQ tells of it by removing the job only. */
  cancelled(jobId: string): void {
    this.finish(jobId, (waiter) => waiter.reject(new TollgateError('CALL_CANCELLED', 'the call was cancelled before it ran')))
  }

  /** Ends every wait; what is under way is not waited for. */
  stop(): void {
    clearInterval(this.recheck)
    for (const id of [...this.waiters.keys()])
      this.finish(id, (waiter) => waiter.reject(new TollgateError('CLOSED', 'this Tollgate was closed while a result was awaited')))
    this.blocking?.disconnect()
  }

  async close(): Promise<void> {
    await this.ready?.catch(() => {})
    await this.events?.close()
    this.stop()
  }

  private async listen(): Promise<void> {
    this.ready ??= this.startListening().catch((error: unknown) => {
      // The next one to wait tries again.
      this.ready = undefined
      throw error
    })
    await this.ready
  }

  private async startListening(): Promise<void> {
    // Read on from the event that is the last one now: what finishes before the first
    // read goes out is not missed.
    const [last] = await this.redis.xrevrange(this.queue.toKey('events'), '+', '-', 'COUNT', 1)
    this.blocking = this.redis.duplicate({ lazyConnect: false })
    this.blocking.on('error', () => {})
    const events = new QueueEvents(this.queue.name, { connection: this.blocking, prefix: this.queue.opts.prefix as string, lastEventId: last?.[0] ?? '0-0' })
    events.on('error', () => {})
    events.on('completed', ({ jobId, returnvalue }) => this.finish(jobId, (waiter) => waiter.resolve(returnvalue)))
    events.on('removed', ({ jobId }) => this.cancelled(jobId))
    events.on('failed', ({ jobId, failedReason }) => this.finish(jobId, (waiter) => waiter.reject(callFailure(failedReason))))
    this.events = events
    // BullMQ trims its event stream: under a flood an event can be gone before it is read.
    this.recheck = setInterval(() => {
      const before = Date.now() - DEFAULTS.resultRecheckMs
      const old = [...this.waiters].filter(([, of]) => [...of].some(({ sinceMs }) => sinceMs <= before)).map(([id]) => id)
      this.lookUp(old.slice(0, 1000), true).catch(() => {})
    }, DEFAULTS.resultRecheckMs)
    this.recheck.unref()
    await events.waitUntilReady()
  }

  /** @param mustExist whether a job that is not there has finished and was removed */
  private async lookUp(ids: readonly string[], mustExist: boolean): Promise<void> {
    const pipeline = this.redis.pipeline()
    for (const id of ids) pipeline.hmget(this.queue.toKey(id), 'name', 'finishedOn', 'failedReason', 'returnvalue')
    const replies = (await pipeline.exec()) ?? []
    for (const [index, id] of ids.entries()) {
      const [error, reply] = replies[index] ?? []
      if (error) continue
      const [name, finishedOn, failedReason, returnvalue] = reply as (string | null)[]
      if (typeof name !== 'string') {
        if (mustExist)
          this.finish(id, (waiter) => waiter.reject(new TollgateError('CALL_UNKNOWN', `call ${id} is not there: it was removed, or finished too long ago`)))
      } else if (typeof finishedOn === 'string') {
        this.finish(id, (waiter) =>
          typeof failedReason === 'string' ? waiter.reject(callFailure(failedReason)) : waiter.resolve(JSON.parse(returnvalue ?? 'null')),
        )
      }
    }
  }

  private finish(id: string, end: (waiter: ResultWaiter) => void): void {
    const of = this.waiters.get(id)
    this.waiters.delete(id)
    for (const waiter of of ?? []) end(waiter)
  }
}

/** Waits no longer than its signal lets it; what is waited for goes on. */
function unlessAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return work
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

/** What an app holds of an enqueued call. */
export class Ticket {
  /** The id of the call and of its BullMQ job; '' where the call was not valid. */
  readonly id: string
  /** What the gate said at the front door; undefined where the call was not valid, or a call of its id was there already. */
  readonly decision: RunDecision | DegradeDecision | WaitDecision | RejectDecision | ExpiredDecision | undefined
  /** Why the call was refused; undefined where it was accepted. */
  readonly error: TollgateError | undefined
  private readonly results: Results

  constructor(id: string, decision: Ticket['decision'], error: TollgateError | undefined, results: Results) {
    this.id = id
    this.decision = decision
    this.error = error
    this.results = results
  }

  /**
   * What the handler returned. @throws TollgateError with the reason where the call failed,
   * was refused or cancelled; whatever the signal gives where it is aborted (the call goes on)
   */
  async result(options: { signal?: AbortSignal } = {}): Promise<unknown> {
    if (this.error !== undefined) throw this.error
    return this.results.wait(this.id, options.signal)
  }
}
