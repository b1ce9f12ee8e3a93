import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { Resolver } from '../admission/resolver.js'
import type { Call } from '../model/call.js'
import type { CustomStrategy } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { TollgateError } from '../model/errors.js'
import type { Clock } from '../model/time.js'
import { Patience, unanswered } from '../redis/bounded-wait.js'
import type { Keys } from '../redis/keys.js'
import type { LedgerNames } from '../store/ledger-names.js'
import { readRecord } from '../store/redis/record.js'
import { ScriptClient } from '../store/redis/script-client.js'
import { logConnection } from '../telemetry/log.js'
import type { UpstreamTracker } from '../upstream/tracker.js'
import { Dispatcher, type FirstLines } from './dispatcher.js'
import { Enqueuer } from './enqueuer.js'
import { type Explanation, explain } from './explain.js'
import { Queues } from './queues.js'
import { Results, type Ticket } from './results.js'
import { recordId, restoredRequest } from './stored-call.js'
import { StrategyResolver } from './strategy-resolver.js'
import { type Handler, Worker, type WorkerOptions } from './worker.js'

export interface QueueRuntimeParts {
  readonly client: Redis
  readonly subscriber: Redis
  readonly keys: Keys
  readonly clock: Clock
  readonly log: Logger
  readonly scriptClient: ScriptClient
  readonly ledgerNames: LedgerNames
  readonly resolver: Resolver
  readonly queue: string
  readonly attempts: number | undefined
  readonly strategies: Readonly<Record<string, CustomStrategy>> | undefined
  readonly tracker: UpstreamTracker
  /** How long Redis may take to take in, explain or cancel a call. */
  readonly timeoutMs: number
  /** Whether the gate goes on without Redis, which may be connected and stand still. */
  readonly away: () => boolean
  /** Another process changed the rules, or may have. */
  readonly rulesChanged: () => void
}

/** What connects this process with the others of its namespace: the queue, its workers, the lines, the notices. */
export class QueueRuntime {
  private readonly parts: QueueRuntimeParts
  private readonly queues: Queues
  private readonly results: Results
  private readonly enqueuer: Enqueuer
  private readonly workers = new Set<Worker>()
  private readonly refresh: NodeJS.Timeout
  /** Workers and the drainer have a connection of their own: a flood through the front door must not stand before them. */
  private working: { client: Redis; scriptClient: ScriptClient; queues: Queues; dispatcher: Dispatcher } | undefined

  constructor(parts: QueueRuntimeParts) {
    this.parts = parts
    this.queues = new Queues(parts.client, parts.keys)
    const queue = this.queues.get(parts.queue)
    this.results = new Results(queue, parts.client)
    const strategyResolver = new StrategyResolver(parts.scriptClient, parts.strategies ?? {}, parts.log)
    const { scriptClient, client: redis, attempts, timeoutMs } = parts
    this.enqueuer = new Enqueuer({ scriptClient, redis, queue, results: this.results, strategyResolver, attempts, timeoutMs })
    parts.subscriber.on('message', (channel: string, message: string) => this.hear(channel, message))
    parts.subscriber.on('ready', parts.rulesChanged)
    this.refresh = setInterval(parts.rulesChanged, DEFAULTS.rulesRefreshMs)
    this.refresh.unref()
  }

  enqueue(call: Call): Promise<Ticket> {
    return this.enqueuer.enqueue(call)
  }

  enqueueMany(calls: readonly Call[]): Promise<Ticket[]> {
    return this.enqueuer.enqueueMany(calls)
  }

  worker(handler: Handler, options: WorkerOptions): Worker {
    const { keys, queue, log, tracker, ledgerNames } = this.parts
    this.working ??= this.startWorking()
    const { scriptClient, client } = this.working
    const strategyResolver = new StrategyResolver(scriptClient, this.parts.strategies ?? {}, log)
    const worker = new Worker(
      { scriptClient, ledgerNames, redis: client, queue, prefix: keys.prefix, log, strategyResolver, tracker, away: this.parts.away },
      handler,
      options,
    )
    this.workers.add(worker)
    return worker
  }

  explain(id: string): Promise<Explanation> {
    const { scriptClient, client, queue, timeoutMs } = this.parts
    return new Patience(client, timeoutMs).answer(
      () => explain({ scriptClient, redis: client, queues: this.queues, queue }, id),
      (why) => unanswered('an explanation', why),
    )
  }

  cancel(id: string): Promise<boolean> {
    const { client, timeoutMs } = this.parts
    return new Patience(client, timeoutMs).answer(
      () => this.takeBack(id),
      (why) => unanswered('the cancellation', why),
    )
  }

  private async takeBack(id: string): Promise<boolean> {
    const { scriptClient, client, keys, queue } = this.parts
    const key = recordId(queue, id)
    const record = await client.get(keys.call(key))
    const stored = readRecord(record)
    const job = await this.queues.get(queue).getJob(id)
    if (job === undefined) throw new TollgateError('CALL_UNKNOWN', `no call ${id} in queue ${queue}: it never was, or it finished too long ago`)
    if (job.finishedOn !== undefined) return false
    const held = stored?.state === 'started' ? 'R' : await scriptClient.release(restoredRequest(scriptClient, key, record), stored?.line ?? '')
    if (held === 'R' || (await job.isActive())) {
      await client.publish(keys.notices, JSON.stringify({ cancel: { queue, id } }))
      return true
    }
    await job.remove()
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

  /** Waits for the calls that run here. Where Redis is gone nothing is waited for that needs it. */
  async close(): Promise<void> {
    clearInterval(this.refresh)
    const { subscriber } = this.parts
    const { gone } = this
    try {
      await Promise.all([...this.workers].map((worker) => worker.close(gone)))
      if (!gone) {
        await this.working?.dispatcher.close()
        await this.results.close()
        await this.queues.close()
        await this.working?.queues.close()
      } else {
        this.working?.dispatcher.stop()
        this.results.stop()
      }
    } finally {
      subscriber.disconnect()
      this.working?.client.disconnect()
    }
  }

  private startWorking(): { client: Redis; scriptClient: ScriptClient; queues: Queues; dispatcher: Dispatcher } {
    const { keys, resolver, log, clock } = this.parts
    // Not lazily: BullMQ gives up on a connection for good whose first attempt, made by itself, fails.
    const client = this.parts.client.duplicate({ lazyConnect: false })
    logConnection(client, log, "workers' connection to Redis")
    const scriptClient = new ScriptClient(client, resolver, clock)
    const queues = new Queues(client, keys)
    const dispatcher = new Dispatcher({ redis: client, scriptClient, queues, clock, log })
    dispatcher.start()
    return { client, scriptClient, queues, dispatcher }
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
      // Anybody can publish.
      this.parts.log.warn({ err: error }, 'a notice could not be read')
      return
    }
    if (notice.rules !== undefined) this.parts.rulesChanged()
    if (notice.cancel?.queue === this.parts.queue) for (const worker of this.workers) worker.abort(notice.cancel.id)
  }
}
