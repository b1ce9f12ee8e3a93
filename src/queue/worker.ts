import { createRedisBackend, DelayedError, type Telemetry } from 'bullmq'
import { DEFAULTS } from '../model/defaults.js'
import { TollgateError } from '../model/errors.js'
import { withoutArguments } from '../model/secrets.js'
import type { Clock } from '../model/time.js'
import type { Outage } from '../outage/outage.js'
import type { LedgerNames } from '../store/ledger-names.js'
import { RETURNS_FIELD } from '../store/redis/protocol.js'
import type { Store } from '../store/store.js'
import type { CallMetrics } from '../telemetry/call-metrics.js'
import { safeObserver } from '../telemetry/observer.js'
import { AttemptTrace } from '../telemetry/tracing.js'
import { Attempt } from './attempt.js'
import type { AttemptParts } from './attempt-parts.js'
import { batchedBackend } from './batched-backend.js'
import { PersistentWorker } from './bull-worker.js'
import { CallStarter } from './call-starter.js'
import { WORKER_NAME } from './foreign-workers.js'
import type { Handler, WorkerOptions } from './handler.js'
import { readableError } from './handler-outcome.js'
import { PlaceReports } from './place-reports.js'
import { SendBack } from './send-back.js'
import { SlotLeases } from './slot-leases.js'
import { StartBatcher } from './start-batcher.js'
import { type AttemptJob, keptTrace, recordId } from './stored-call.js'

export interface WorkerParts extends Pick<AttemptParts, 'scriptClient' | 'redis' | 'log' | 'strategyResolver' | 'tracker' | 'usage' | 'notes'> {
  readonly queue: string
  readonly prefix: string
  readonly ledgerNames: LedgerNames
  readonly clock: Clock
  readonly outage: Outage
  readonly store: Store
  readonly metrics: CallMetrics
  /** Of BullMQ: it makes spans of its own then. */
  readonly telemetry?: Telemetry | undefined
  readonly decideOnSums: boolean
  /** Whether Redis does not answer or refuses, though it may be connected. */
  readonly away: () => boolean
}

/** Takes jobs from BullMQ, whichever producer added them, and makes an attempt of each: see `Attempt`. */
export class Worker {
  readonly bull: PersistentWorker
  private readonly shared: AttemptParts
  private readonly starter: CallStarter
  private readonly leases: SlotLeases
  private readonly places: PlaceReports
  /** The attempts under way, by the ids of their jobs. */
  private readonly attempts = new Map<string, Attempt>()
  /** Ids of calls that were cancelled lately and had no attempt here: BullMQ may have been handing over the job at that moment. */
  private readonly cancelled = new Set<string>()
  private closing = false

  constructor(
    private readonly parts: WorkerParts,
    handler: Handler,
    options: WorkerOptions,
  ) {
    const { scriptClient, tracker, log } = parts
    this.starter = new CallStarter({ ...parts, batcher: new StartBatcher(scriptClient, log, parts.ledgerNames, parts.decideOnSums) })
    this.leases = new SlotLeases(scriptClient, log)
    this.shared = {
      ...parts,
      handler,
      options,
      observer: safeObserver(options.observer, log),
      starter: this.starter,
      leases: this.leases,
      sendBack: new SendBack(parts.redis, scriptClient, tracker, log, options.callOf !== undefined, options.maxReturns ?? DEFAULTS.maxReturns),
      isClosing: () => this.closing,
    }
    const concurrency = options.concurrency ?? DEFAULTS.concurrency
    const leaseMs = options.leaseMs ?? DEFAULTS.leaseMs
    this.places = new PlaceReports(parts, concurrency, leaseMs)
    const run = async (job: AttemptJob, token: string | undefined): Promise<unknown> => {
      this.places.taken()
      parts.metrics.cells.add('pickups', 1)
      try {
        return await this.attempt(job, token)
      } finally {
        this.places.freed()
      }
    }
    const bullOptions = {
      connection: parts.redis,
      prefix: parts.prefix,
      name: WORKER_NAME,
      concurrency,
      lockDuration: leaseMs,
      stalledInterval: leaseMs,
      maxStalledCount: DEFAULTS.lostAtMost,
      runRetryDelay: DEFAULTS.longestStoreRetryMs,
      removeOnComplete: { age: DEFAULTS.keepResultsMs / 1000 },
      removeOnFail: { age: DEFAULTS.keepFailuresMs / 1000 },
      ...(parts.telemetry === undefined ? {} : { telemetry: parts.telemetry }),
    }
    const backend = (options.finishInBatches ?? true) ? batchedBackend(parts.redis, log, bullOptions) : createRedisBackend
    this.bull = new PersistentWorker(parts.queue, run, bullOptions, backend)
    this.bull.on('error', (error) => log.error({ err: withoutArguments(error) }, 'worker error'))
    this.bull.on('failed', (job, { message }) => {
      // A job that is retried by hand may return as often as a new one. If this is lost, its first refusal is its last.
      if (job?.id === undefined || !message.startsWith('UPSTREAM_REFUSED')) return
      parts.redis
        .hdel(scriptClient.keys.job(recordId(parts.queue, job.id)), RETURNS_FIELD)
        .catch((error: unknown) => log.warn({ err: error, call: job.id }, 'the returns of a call could not be forgotten'))
    })
    this.bull.on('stalled', (jobId) => log.warn({ call: jobId }, 'a worker lost this call; it is run again'))
  }

  /** Makes an attempt of the call in a job. @param token the lock of the job; '' for a held call that has no job yet */
  async attempt(job: AttemptJob, token = ''): Promise<unknown> {
    const id = job.id as string
    const trace = AttemptTrace.begin(job.queueName, id, keptTrace(job.opts), job.timestamp, job.attemptsMade + 1, this.parts.telemetry !== undefined)
    const attempt = new Attempt(this.shared, job, token, trace)
    this.attempts.set(id, attempt)
    if (this.cancelled.has(id)) attempt.abort(cancellation())
    try {
      const result = await (trace === undefined ? attempt.run() : trace.run(() => attempt.run()))
      trace?.end()
      return result
    } catch (error) {
      const readable = readableError(error)
      trace?.end(error instanceof DelayedError ? undefined : readable)
      throw readable
    } finally {
      if (this.attempts.get(id) === attempt) this.attempts.delete(id)
    }
  }

  /**
   * Takes no more jobs, and waits for the calls that run.
   * @param force does not wait: other workers run these calls again. For a Redis that is gone
   */
  async close(force = this.parts.away() || this.parts.redis.status !== 'ready'): Promise<void> {
    this.closing = true
    this.places.close()
    await this.bull.close(force)
    await this.places.end(force)
    if (!force) await this.starter.close()
    await this.leases.close(force)
  }

  /** The connection to Redis is back. */
  reconnected(): void {
    this.leases.renewNow()
  }

  abort(jobId: string, error: TollgateError = cancellation()): boolean {
    const attempt = this.attempts.get(jobId)
    attempt?.abort(error)
    if (attempt === undefined) {
      this.cancelled.add(jobId)
      setTimeout(() => this.cancelled.delete(jobId), HAND_OVER_MS).unref()
    }
    return attempt !== undefined
  }
}

/** How long BullMQ may take to hand a job over that it has marked as active. */
const HAND_OVER_MS = 1000

function cancellation(): TollgateError {
  return new TollgateError('CALL_CANCELLED', 'the call was cancelled while it ran')
}
