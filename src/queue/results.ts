import { Job, type Queue, QueueEvents } from 'bullmq'
import type { Redis } from 'ioredis'
import { DEFAULTS } from '../model/defaults.js'
import { TollgateError } from '../model/errors.js'
import { within } from '../redis/bounded-wait.js'
import { callFailure, keptIdentity } from './stored-call.js'

class ResultWaiter {
  constructor(readonly identity: string | undefined) {}

  readonly sinceMs = performance.now()
  resolve: (value: unknown) => void = () => {}
  reject: (error: unknown) => void = () => {}
  readonly result = new Promise<unknown>((resolve, reject) => {
    this.resolve = resolve
    this.reject = reject
  })
}

/** Gives the results of finished calls to the tickets that wait for them: one event stream per process, for any number of tickets. */
export class Results {
  private readonly waiters = new Map<string, Set<ResultWaiter>>()
  private events: QueueEvents | undefined
  /** The connection of the event stream: BullMQ blocks on it, so nothing else may use it. */
  private blocking: Redis | undefined
  private listening: Promise<unknown> | undefined
  private recheck: NodeJS.Timeout | undefined

  constructor(
    private readonly queue: Queue,
    private readonly redis: Redis,
  ) {}

  /** @param identity of the call: once its job was removed, another call may have its id */
  async wait(jobId: string, { signal, identity }: { signal?: AbortSignal; identity?: string | undefined } = {}): Promise<unknown> {
    signal?.throwIfAborted()
    await within(Number.POSITIVE_INFINITY, this.listen(), { signal })
    const waiters = this.waiters.get(jobId) ?? new Set()
    const waiter = new ResultWaiter(identity)
    this.waiters.set(jobId, waiters.add(waiter))
    // It may be rejected during the look-up, where nothing else would handle that.
    waiter.result.catch(() => {})
    try {
      // The call may have finished before the event stream was read: then the look-up finds its result.
      const found = this.lookUp([jobId], false).then(() => waiter.result)
      return await within(Number.POSITIVE_INFINITY, found, { signal })
    } finally {
      waiters.delete(waiter)
      if (waiters.size === 0 && this.waiters.get(jobId) === waiters) this.waiters.delete(jobId)
    }
  }

  /** Ends the wait for a call that was cancelled before it ran: the only event of that is that its job is removed. */
  cancelled(jobId: string): void {
    this.finish(jobId, (waiter) => waiter.reject(new TollgateError('CALL_CANCELLED', 'the call was cancelled before it ran')))
  }

  stop(): void {
    clearInterval(this.recheck)
    for (const id of [...this.waiters.keys()])
      this.finish(id, (waiter) => waiter.reject(new TollgateError('CLOSED', 'this Tollgate was closed while a result was awaited')))
    this.blocking?.disconnect()
  }

  async close(): Promise<void> {
    await this.listening?.catch(() => {})
    await this.events?.close()
    this.stop()
  }

  private async listen(): Promise<void> {
    this.listening ??= this.startListening().catch((error: unknown) => {
      // The next ticket that waits tries again.
      this.listening = undefined
      throw error
    })
    await this.listening
  }

  private async startListening(): Promise<void> {
    // Read on from the event that is the last one now: no call that finishes before the first read is missed.
    const [last] = await this.redis.xrevrange(this.queue.toKey('events'), '+', '-', 'COUNT', 1)
    this.blocking = this.redis.duplicate({ lazyConnect: false })
    this.blocking.on('error', () => {})
    const events = new QueueEvents(this.queue.name, { connection: this.blocking, prefix: this.queue.opts.prefix as string, lastEventId: last?.[0] ?? '0-0' })
    events.on('error', () => {})
    events.on('completed', ({ jobId, returnvalue }) => this.finish(jobId, (waiter) => waiter.resolve(returnvalue)))
    events.on('removed', ({ jobId }) => this.cancelled(jobId))
    events.on('failed', ({ jobId, failedReason }) => this.finish(jobId, (waiter) => waiter.reject(callFailure(failedReason))))
    this.events = events
    // BullMQ trims its event stream: under load an event can be removed before it is read.
    this.recheck = setInterval(() => {
      const beforeMs = performance.now() - DEFAULTS.resultRecheckMs
      const old = [...this.waiters].filter(([, waiters]) => [...waiters].some(({ sinceMs }) => sinceMs <= beforeMs)).map(([id]) => id)
      this.lookUp(old.slice(0, 1000), true).catch(() => {})
    }, DEFAULTS.resultRecheckMs)
    this.recheck.unref()
    await events.waitUntilReady()
  }

  /** @param mustExist whether a missing job means that the call finished and its job was removed */
  private async lookUp(ids: readonly string[], mustExist: boolean): Promise<void> {
    const pipeline = this.redis.pipeline()
    for (const id of ids) pipeline.hmget(this.queue.toKey(id), 'name', 'finishedOn', 'failedReason', 'returnvalue', 'opts')
    const replies = (await pipeline.exec()) ?? []
    for (const [index, id] of ids.entries()) {
      const [error, reply] = replies[index] ?? []
      if (error) continue
      const [name, finishedOn, failedReason, returnvalue, opts] = reply as (string | null)[]
      this.turnAway(id, opts)
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

  /** Ends the waits of tickets whose job is gone: the one that has its id now is another call's. */
  private turnAway(id: string, opts: string | null | undefined): void {
    const kept = typeof opts === 'string' ? keptIdentity(Job.optsFromJSON(opts)) : undefined
    const waiters = this.waiters.get(id)
    if (kept === undefined || waiters === undefined) return
    for (const waiter of waiters) {
      if (waiter.identity === undefined || waiter.identity === kept) continue
      waiters.delete(waiter)
      waiter.reject(new TollgateError('CALL_UNKNOWN', `call ${id} is not there: it was removed, or finished too long ago`))
    }
  }

  private finish(id: string, end: (waiter: ResultWaiter) => void): void {
    const waiters = this.waiters.get(id)
    this.waiters.delete(id)
    for (const waiter of waiters ?? []) end(waiter)
  }
}
