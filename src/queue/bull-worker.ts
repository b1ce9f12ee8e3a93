import { Worker as BullWorker, DelayedError, type Job, LockManager } from 'bullmq'
import { DEFAULTS } from '../model/defaults.js'
import { retrying } from '../redis/bounded-wait.js'

/** The next job, where there is one; BullMQ's types leave that out. */
type Told = ReturnType<BullWorker['handleCompleted']>

/** How often the lock of a job is renewed within its lease. */
const LOCK_RENEWALS = 4
/** How often at least an end that Redis refuses is told again within the lease. */
const TRIES_PER_LEASE = 8

/**
 * Renews the locks of all jobs by the passing of time. BullMQ's own compares times of the machine's clock: where that steps back it renews nothing
 * until the clock has caught up, and a step of more than half a lease lets jobs run twice.
 */
class SteadyLockManager extends LockManager {
  private timer: NodeJS.Timeout | undefined

  override start(): void {
    if (this.closed) return
    this.timer = setTimeout(() => {
      const jobs = this.getTrackedJobIds()
      const renewed = jobs.length === 0 ? Promise.resolve() : this.extendLocks(jobs)
      void renewed.finally(() => this.start())
    }, this.opts.lockDuration / LOCK_RENEWALS)
  }

  override async close(): Promise<void> {
    clearTimeout(this.timer)
    await super.close()
  }

  override isRunning(): boolean {
    return !this.closed && this.timer !== undefined
  }
}

/**
 * BullMQ's worker, which tells the end of a job again where Redis refuses it (no memory, read-only, loading), and keeps the lock of the job meanwhile.
 * BullMQ's own forgets the end; when the lock ends the job is given to another worker, and its call runs twice.
 *
 * It is told again until Redis takes it, or until the lock was lost (BullMQ's script refuses the end then: the job is another worker's). A worker that
 * closes tells it for one lease more at most, and not where it is closed by force. If the process dies before, the job is run again, as after any death.
 *
 * A worker that stood still has lost the locks of its jobs, and may be handed such a job again while its handler goes on. BullMQ renews locks by the
 * id of the job: it would stop to renew that of the second attempt when the first one ends, and the job would run a third time, and so on. Here the
 * lock that is renewed is that of the attempt that began last, until that one ends.
 */
export class PersistentWorker extends BullWorker {
  /** The locks of the attempts that began last, by job. */
  private readonly locks = new Map<string, string>()
  /** Until when ends are told that Redis refuses, once this worker closes; by `performance.now()`. */
  private tellsUntilMs = Number.POSITIVE_INFINITY

  protected override createLockManager(): void {
    const { lockRenewTime = 0, lockDuration = DEFAULTS.leaseMs, name } = this.opts
    // BullMQ's own types of the two do not fit each other.
    const context = this as unknown as ConstructorParameters<typeof LockManager>[0]
    this.lockManager = new SteadyLockManager(context, { lockRenewTime, lockDuration, workerId: this.id, ...(name === undefined ? {} : { workerName: name }) })
  }

  override close(force = false): Promise<void> {
    this.tellsUntilMs = Math.min(this.tellsUntilMs, performance.now() + (force ? 0 : this.leaseMs))
    return super.close(force)
  }

  private get leaseMs(): number {
    return this.opts.lockDuration ?? DEFAULTS.leaseMs
  }

  override async processJob(...args: Parameters<BullWorker['processJob']>): ReturnType<BullWorker['processJob']> {
    const [job, token] = args
    const { id = '' } = job
    this.locks.set(id, token)
    try {
      return await super.processJob(...args)
    } finally {
      if (this.locks.get(id) === token) this.locks.delete(id)
      else this.keepLastLock(job)
    }
  }

  protected override handleCompleted(...args: Parameters<BullWorker['handleCompleted']>): Told {
    return this.untilTaken(args[1], args[2], () => super.handleCompleted(...args))
  }

  protected override handleFailed(...args: Parameters<BullWorker['handleFailed']>): Told {
    // The job was delayed already, or is not this worker's any more: nothing is told of it.
    if (args[0] instanceof DelayedError) return super.handleFailed(...args)
    return this.untilTaken(args[1], args[2], () => super.handleFailed(...args))
  }

  /** BullMQ has stopped to renew the lock of the job, since an attempt ends: that of a later one is renewed still. */
  private keepLastLock({ id = '', processedOn = 0 }: Job): void {
    const last = this.locks.get(id)
    if (last !== undefined) this.lockManager.trackJob(id, last, processedOn)
  }

  private untilTaken(job: Job, token: string, tell: () => Told): Told {
    const { id = '', processedOn = 0, stacktrace } = job
    if (this.locks.get(id) !== token) this.keepLastLock(job)
    const traced = [...(stacktrace ?? [])]
    const told = () => {
      // An end that was refused has left its trace in the job.
      job.stacktrace = [...traced]
      return tell()
    }
    const again = (error: Error) => {
      if (performance.now() >= this.tellsUntilMs) throw error
      // The job is that of a later attempt.
      if (this.locks.get(id) !== token) throw error
      if (!this.lockManager.getTrackedJobIds().includes(id)) this.emit('error', error)
      this.lockManager.trackJob(id, token, processedOn)
    }
    return retrying(told, again, this.leaseMs / TRIES_PER_LEASE).finally(() => {
      if (this.locks.get(id) === token) this.lockManager.untrackJob(id)
    })
  }
}
