import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { identityOf } from '../admission/identity.js'
import type { Resolver } from '../admission/resolver.js'
import type { UsageReader } from '../admission/usage-reader.js'
import type { Call } from '../model/call.js'
import type { CustomStrategy } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid, TollgateError } from '../model/errors.js'
import type { Clock } from '../model/time.js'
import { answeredWithin } from '../redis/bounded-wait.js'
import type { Keys } from '../redis/keys.js'
import { isStoreError } from '../redis/store-error.js'
import type { LedgerNames } from '../store/ledger-names.js'
import { ScriptClient } from '../store/redis/script-client.js'
import { logConnection } from '../telemetry/log.js'
import type { UpstreamTracker } from '../upstream/tracker.js'
import { validateCall } from '../validation/call.js'
import { Dispatcher } from './dispatcher.js'
import { Enqueuer } from './enqueuer.js'
import { ExistingJobs } from './existing-jobs.js'
import { type Explanation, explain } from './explain.js'
import type { Handler, WorkerOptions } from './handler.js'
import type { FirstLines } from './line-scan.js'
import { Queues } from './queues.js'
import { Results } from './results.js'
import { readRecord, recordId, restoredRequest } from './stored-call.js'
import { StrategyResolver } from './strategy-resolver.js'
import { Worker } from './worker.js'

/** How often a cancellation looks again at a call whose job was taken, or came back, meanwhile. */
const RELEASE_TRIES = 5

interface QueueRuntimeParts {
  readonly client: Redis
  readonly subscriber: Redis
  readonly keys: Keys
  readonly clock: Clock
  readonly log: Logger
  readonly scriptClient: ScriptClient
  readonly ledgerNames: LedgerNames
  readonly resolver: Resolver
  readonly options: {
    readonly queue: string
    readonly attempts?: number | undefined
    readonly maxPayloadBytes: number
    readonly strategies: Readonly<Record<string, CustomStrategy>>
    /** How long Redis may take to take in, explain or cancel a call. */
    readonly enqueueTimeoutMs: number
  }
  readonly tracker: UpstreamTracker
  readonly usage: UsageReader
  /** Whether Redis does not answer or refuses, though it may be connected. */
  readonly away: () => boolean
  /** Is called when another process has changed the rules, or may have. */
  readonly rulesChanged: () => void
}

/** A connection of its own for workers and the dispatcher, so that a flood of enqueues does not stand before them. */
interface WorkingParts {
  readonly client: Redis
  readonly scriptClient: ScriptClient
  readonly queues: Queues
  readonly dispatcher: Dispatcher
}

/** What joins this process to the others of its namespace: the queue, its workers, the lines, the notices. */
export class QueueRuntime {
  readonly enqueuer: Enqueuer
  private readonly queues: Queues
  private readonly results: Results
  private readonly workers = new Set<Worker>()
  private readonly refresh: NodeJS.Timeout
  /** Made with the first worker. */
  private working: WorkingParts | undefined

  constructor(private readonly parts: QueueRuntimeParts) {
    this.queues = new Queues(parts.client, parts.keys)
    const { scriptClient, client: redis, log } = parts
    const { attempts, strategies, maxPayloadBytes, enqueueTimeoutMs: timeoutMs } = parts.options
    const queue = this.queues.get(parts.options.queue)
    this.results = new Results(queue, redis)
    const strategyResolver = new StrategyResolver(scriptClient, strategies, log)
    this.enqueuer = new Enqueuer({ scriptClient, redis, queue, results: this.results, strategyResolver, attempts, maxPayloadBytes, timeoutMs })
    parts.subscriber.on('message', (channel: string, message: string) => this.hear(channel, message))
    parts.subscriber.on('ready', parts.rulesChanged)
    this.refresh = setInterval(parts.rulesChanged, DEFAULTS.rulesRefreshMs)
    this.refresh.unref()
  }

  worker(handler: Handler, options: WorkerOptions): Worker {
    this.working ??= this.startWorking()
    const { scriptClient, client: redis } = this.working
    const { queue, strategies } = this.parts.options
    const strategyResolver = new StrategyResolver(scriptClient, strategies, this.parts.log)
    const worker = new Worker({ ...this.parts, scriptClient, redis, queue, prefix: this.parts.keys.prefix, strategyResolver }, handler, options)
    this.workers.add(worker)
    return worker
  }

  explain(call: string | Call): Promise<Explanation> {
    const { scriptClient, client, options } = this.parts
    const queue = this.queues.get(options.queue)
    return answeredWithin(client, options.enqueueTimeoutMs, 'an explanation', async () => explain(scriptClient, client, queue, await this.idOf(call)))
  }

  cancel(call: string | Call): Promise<boolean> {
    const { client, options } = this.parts
    return answeredWithin(client, options.enqueueTimeoutMs, 'the cancellation', async () => this.release(await this.idOf(call)))
  }

  /** The id of a call. @throws ID_TAKEN where the job of that id is another call's; CallInvalid where the call has no id */
  private async idOf(given: string | Call): Promise<string> {
    if (typeof given === 'string') return given
    const call = validateCall(given)
    if (call.id === undefined) throw new CallInvalid('id: is needed to know which call is meant (got undefined)')
    await new ExistingJobs(this.queues.get(this.parts.options.queue), this.parts.client).joins(call.id, call, identityOf(call))
    return call.id
  }

  /** Releases what a call holds, and removes its job or has its worker abort it. */
  private async release(id: string, tries = RELEASE_TRIES): Promise<boolean> {
    const { scriptClient, client, keys } = this.parts
    const { queue } = this.parts.options
    const key = recordId(queue, id)
    const record = await client.get(keys.call(key))
    const stored = readRecord(record)
    const job = await this.queues.get(queue).getJob(id)
    if (job === undefined) throw new TollgateError('CALL_UNKNOWN', `no call ${id} in queue ${queue}: it never was, or it finished too long ago`)
    if (job.finishedOn !== undefined) return false
    const abort = () => client.publish(keys.notices, JSON.stringify({ cancel: { queue, id } }))
    // First of all: a worker that has the job, and finds its pass released, would start the call as a new one.
    if (await job.isActive()) await abort()
    const held = stored?.state === 'started' ? 'R' : await scriptClient.release(restoredRequest(scriptClient, key, record), stored?.line ?? '')
    const state = await job.getState()
    if (state === 'completed') return false
    // Its worker has aborted it already.
    if (state === 'failed') return true
    if (held === 'R' || state === 'active') await abort()
    else {
      try {
        await job.remove()
      } catch (error) {
        // BullMQ does not remove a job that a worker has taken at this moment.
        if (isStoreError(error) || tries === 1) throw error
        return this.release(id, tries - 1)
      }
    }
    return true
  }

  /** Whether Redis is out of reach now. */
  get gone(): boolean {
    return this.parts.client.status !== 'ready' || this.parts.away()
  }

  /** The rules changed: every line may move, these first. */
  wakeAll(first?: FirstLines): void {
    this.working?.dispatcher.wakeAll(first)
  }

  /** Waits for the calls that run here; where Redis is gone, for nothing that needs it. */
  async close(): Promise<void> {
    clearInterval(this.refresh)
    const { gone } = this
    try {
      await Promise.all([...this.workers].map((worker) => worker.close(gone)))
      if (gone) {
        this.working?.dispatcher.stop()
        this.results.stop()
        return
      }
      await this.working?.dispatcher.close()
      await this.results.close()
      await this.queues.close()
      await this.working?.queues.close()
    } finally {
      this.working?.client.disconnect()
    }
  }

  private startWorking(): WorkingParts {
    const { keys, resolver, log, clock } = this.parts
    // It connects at once: BullMQ gives up for good on a connection whose first attempt, made by BullMQ, fails.
    const client = this.parts.client.duplicate({ lazyConnect: false })
    logConnection(client, log, "workers' connection to Redis")
    client.on('ready', () => {
      for (const worker of this.workers) worker.reconnected()
    })
    const scriptClient = new ScriptClient(client, resolver, clock)
    const queues = new Queues(client, keys)
    return { client, scriptClient, queues, dispatcher: new Dispatcher(client, scriptClient, queues, clock, log) }
  }

  private hear(channel: string, message: string): void {
    if (channel === this.parts.keys.wake) {
      this.working?.dispatcher.wake()
      return
    }
    if (channel !== this.parts.keys.notices) return
    let notice: { rules?: string; cancel?: { queue: string; id: string } }
    try {
      notice = JSON.parse(message)
    } catch (error) {
      // Every client of this Redis can publish on the channel.
      this.parts.log.warn({ err: error }, 'a notice could not be read')
      return
    }
    if (notice.rules !== undefined) this.parts.rulesChanged()
    if (notice.cancel?.queue === this.parts.options.queue) for (const worker of this.workers) worker.abort(notice.cancel.id)
  }
}
