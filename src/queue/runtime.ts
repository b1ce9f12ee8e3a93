import type { Telemetry } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { identityOf } from '../admission/identity.js'
import type { Resolver } from '../admission/resolver.js'
import type { UsageReader } from '../admission/usage-reader.js'
import type { CallsPage, CheckedCallsQuery, CheckedLinesQuery, LinesPage } from '../gate/waiting.js'
import type { CallHistory } from '../history/answers.js'
import type { Recorder } from '../history/recorder.js'
import { readSeen, type Seen } from '../history/seen.js'
import type { Call } from '../model/call.js'
import type { CustomStrategy } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid, TollgateError } from '../model/errors.js'
import type { Clock } from '../model/time.js'
import type { UpstreamName } from '../model/upstream.js'
import type { Outage } from '../outage/outage.js'
import type { OnStoreError } from '../policy/rule.js'
import { answeredWithin, within } from '../redis/bounded-wait.js'
import type { Keys } from '../redis/keys.js'
import { waitsForReplicas } from '../redis/replicas.js'
import { isStoreError } from '../redis/store-error.js'
import type { Subscription } from '../redis/subscription.js'
import type { LedgerNames } from '../store/ledger-names.js'
import { ScriptClient } from '../store/redis/script-client.js'
import type { Store } from '../store/store.js'
import type { CallMetrics } from '../telemetry/call-metrics.js'
import { logConnection } from '../telemetry/log.js'
import type { UpstreamTracker } from '../upstream/tracker.js'
import { validateCall } from '../validation/call.js'
import { readCallHistory } from './call-history.js'
import { CallNotes } from './call-notes.js'
import { Dispatcher } from './dispatcher.js'
import { Enqueuer } from './enqueuer.js'
import { ExistingJobs } from './existing-jobs.js'
import { type Explanation, explain } from './explain.js'
import { ForeignWorkers } from './foreign-workers.js'
import type { Handler, WorkerOptions } from './handler.js'
import { HeldCalls } from './held-calls.js'
import { heldQueueOf, newHeldQueue, sweepHeld } from './held-queue.js'
import { startLifted } from './lifted-calls.js'
import { LineLook } from './line-look.js'
import type { FirstLines } from './line-scan.js'
import { QueueStates } from './queue-states.js'
import { Queues } from './queues.js'
import { Results } from './results.js'
import { stirReturned } from './stir-returned.js'
import { recordId, releaseStored } from './stored-call.js'
import { StrategyResolver } from './strategy-resolver.js'
import { WaitingList } from './waiting-list.js'
import { Worker } from './worker.js'

/** How often a cancellation looks again at a call whose job was taken, or came back, meanwhile. */
const RELEASE_TRIES = 5

interface QueueRuntimeParts {
  readonly client: Redis
  readonly subscription: Subscription
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
    readonly onStoreError: OnStoreError
    /** Of BullMQ, for spans of its own. */
    readonly telemetry?: Telemetry | undefined
    readonly decideOnSums: boolean
  }
  readonly tracker: UpstreamTracker
  readonly usage: UsageReader
  readonly outage: Outage
  readonly metrics: CallMetrics
  readonly recorder: Recorder
  /** That of the gate, which goes on while Redis is away. */
  readonly store: Store
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
  readonly foreignWorkers: ForeignWorkers
  private readonly queueStates: QueueStates
  private readonly waitingList: WaitingList
  private readonly notes: CallNotes
  private readonly workers = new Set<Worker>()
  /** By the names of their queues. */
  private readonly held = new Map<string, HeldCalls>()
  /** Is told of alerts, as they come by the channel. */
  onAlert: ((notice: unknown) => void) | undefined
  private sweeps: NodeJS.Timeout | undefined
  private readonly refresh: NodeJS.Timeout
  /** Made with the first worker. */
  private working: WorkingParts | undefined

  constructor(private readonly parts: QueueRuntimeParts) {
    this.queues = new Queues(parts.client, parts.keys, parts.options.telemetry)
    this.queueStates = new QueueStates(parts.client, parts.keys)
    this.foreignWorkers = new ForeignWorkers(parts.client, parts.keys.prefix, parts.options.queue, parts.log)
    const { scriptClient, client: redis, log } = parts
    this.waitingList = new WaitingList({ scriptClient, redis, queueStates: this.queueStates }, parts.options.queue)
    this.notes = new CallNotes({ ...parts, redis })
    const { attempts, strategies, maxPayloadBytes, enqueueTimeoutMs: timeoutMs } = parts.options
    const queue = this.queues.get(parts.options.queue)
    this.results = new Results(queue, redis)
    const strategyResolver = new StrategyResolver(scriptClient, strategies, log)
    this.enqueuer = new Enqueuer({
      scriptClient,
      redis,
      queue,
      queueStates: this.queueStates,
      results: this.results,
      strategyResolver,
      notes: this.notes,
      attempts,
      maxPayloadBytes,
      timeoutMs,
      knowsRules: () => parts.outage.knowsRules,
      metrics: parts.metrics,
    })
    parts.subscription.hear(parts.keys.wake, () => this.working?.dispatcher.wake())
    parts.subscription.hear(parts.keys.notices, (notice) => this.hear(notice))
    parts.subscription.whenReady(parts.rulesChanged)
    this.refresh = setInterval(parts.rulesChanged, DEFAULTS.rulesRefreshMs)
    this.refresh.unref()
  }

  worker(handler: Handler, options: WorkerOptions): Worker {
    const worker = this.newWorker(this.parts.options.queue, handler, options)
    this.workers.add(worker)
    return worker
  }

  private newWorker(queue: string, handler: Handler, options: WorkerOptions): Worker {
    this.working ??= this.startWorking()
    const { scriptClient, client: redis } = this.working
    const strategyResolver = new StrategyResolver(scriptClient, this.parts.options.strategies, this.parts.log)
    const away = () => this.parts.outage.breaker.away
    return new Worker(
      {
        ...this.parts,
        away,
        notes: this.notes,
        scriptClient,
        redis,
        queue,
        prefix: this.parts.keys.prefix,
        telemetry: this.parts.options.telemetry,
        strategyResolver,
        decideOnSums: this.parts.options.decideOnSums,
      },
      handler,
      options,
    )
  }

  /** Starts to hold calls in this process. */
  hold(options: WorkerOptions): HeldCalls {
    const { scriptClient, client: redis, log } = this.parts
    const { attempts = 1, enqueueTimeoutMs: timeoutMs } = this.parts.options
    const name = newHeldQueue()
    const queue = this.queues.get(name)
    const held = new HeldCalls(
      {
        queue,
        redis,
        scriptClient,
        results: new Results(queue, redis),
        log,
        attempts,
        timeoutMs,
        gone: () => this.gone,
        startWorker: (handler, given) => this.newWorker(name, handler, given),
        cancel: (id) => this.release(id),
      },
      options,
    )
    this.held.set(name, held)
    return held
  }

  private queueOf(id: string): string {
    return heldQueueOf(id) ?? this.parts.options.queue
  }

  explain(call: string | Call): Promise<Explanation> {
    const { scriptClient, client } = this.parts
    const known = typeof call === 'string' ? this.held.get(this.queueOf(call))?.explain(call) : undefined
    if (known !== undefined) return Promise.resolve(known)
    return this.answered('an explanation', async () => {
      const id = await this.idOf(call)
      return explain({ scriptClient, redis: client, queueStates: this.queueStates }, this.queues.get(this.queueOf(id)), id)
    })
  }

  /** What a call went through. @throws CALL_UNKNOWN */
  callHistory(id: string): Promise<CallHistory> {
    const { client, keys, recorder } = this.parts
    return this.answered('the history of a call', async () => {
      await recorder.sync()
      return readCallHistory(client, keys, this.queueOf(id), id)
    })
  }

  get redis(): Redis {
    return this.parts.client
  }

  /** What the dispatcher saw of the lines last. */
  seen(): Promise<Seen | null> {
    const { client, keys } = this.parts
    return this.answered('what the dispatcher saw', async () => readSeen(await client.get(keys.seen)))
  }

  calls(query: CheckedCallsQuery): Promise<CallsPage> {
    return this.answered('the list of calls', () => this.waitingList.calls(query))
  }

  /** Calls that an agent has refused, and that wait alone, may go: its block was lifted. */
  stirReturned(name: UpstreamName): Promise<void> {
    return this.answered('the wake-up of its calls', () => stirReturned(this.parts.client, this.parts.keys, name))
  }

  lines(query: CheckedLinesQuery): Promise<LinesPage> {
    return this.answered('the list of lines', () => this.waitingList.lines(query))
  }

  private answered<T>(what: string, send: () => Promise<T>): Promise<T> {
    return answeredWithin(this.parts.client, this.parts.options.enqueueTimeoutMs, what, send)
  }

  result(id: string, signal: AbortSignal | undefined): Promise<unknown> {
    return this.results.wait(id, signal === undefined ? {} : { signal })
  }

  async reach(): Promise<{ redis: boolean; dispatched: boolean }> {
    const { client, keys, options } = this.parts
    if (this.gone) return { redis: false, dispatched: false }
    try {
      return { redis: true, dispatched: (await within(options.enqueueTimeoutMs, client.exists(keys.dispatcher))) === 1 }
    } catch {
      return { redis: false, dispatched: false }
    }
  }

  cancel(call: string | Call): Promise<boolean> {
    if (typeof call === 'string' && this.held.get(this.queueOf(call))?.cancel(call) === true) return Promise.resolve(true)
    return this.answered('the cancellation', async () => this.release(await this.idOf(call)))
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
    const queue = this.queueOf(id)
    const key = recordId(queue, id)
    const job = await this.queues.get(queue).getJob(id)
    const abort = () => client.publish(keys.notices, JSON.stringify({ cancel: { queue, id } }))
    if (job === undefined) {
      if (heldQueueOf(id) === undefined || (await client.zscore(keys.held, queue)) === null)
        throw new TollgateError('CALL_UNKNOWN', `no call ${id} in queue ${queue}: it never was, or it finished too long ago`)
      // A held call that runs has no job: its process knows it.
      await abort()
      return true
    }
    if (job.finishedOn !== undefined) return false
    // First of all: a worker that has the job, and finds its pass released, would start the call as a new one.
    if (await job.isActive()) await abort()
    const held = await releaseStored(scriptClient, key)
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

  /** Whether this process has workers or holds calls. */
  get works(): boolean {
    return this.working !== undefined
  }

  /** Whether this process dispatches the lines of the namespace. */
  get dispatches(): boolean {
    return this.working?.dispatcher.leads === true
  }

  /** Whether Redis is out of reach now. */
  get gone(): boolean {
    return this.parts.client.status !== 'ready' || this.parts.outage.breaker.away
  }

  /** The rules changed: every line may move, these first. */
  wakeAll(first?: FirstLines): void {
    this.working?.dispatcher.wakeAll(first)
  }

  /** Starts the waiting calls that an override lifts every rule for. */
  startLifted(): Promise<void> {
    const { client, scriptClient } = this.parts
    return startLifted(client, scriptClient, this.queues)
  }

  /** Waits for the calls that run here; where Redis is gone, for nothing that needs it. */
  async close(): Promise<void> {
    clearInterval(this.sweeps)
    this.foreignWorkers.close()
    const { gone } = this
    try {
      await Promise.all([...this.workers, ...this.held.values()].map((one) => one.close(gone)))
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
      // Until its calls have ended this process may dispatch: by the rules in force, not by those of when it was told to close.
      clearInterval(this.refresh)
      this.working?.client.disconnect()
    }
  }

  private startWorking(): WorkingParts {
    const { keys, resolver, log, clock } = this.parts
    // It connects at once: BullMQ gives up for good on a connection whose first attempt, made by BullMQ, fails.
    const client = this.parts.client.duplicate({ lazyConnect: false })
    waitsForReplicas(client, this.parts.client)
    logConnection(client, log, "workers' connection to Redis")
    client.on('ready', () => {
      for (const one of [...this.workers, ...this.held.values()]) one.reconnected()
    })
    const scriptClient = new ScriptClient(client, resolver, clock)
    const queues = new Queues(client, keys)
    const look = new LineLook({ ...this.parts, redis: client, scriptClient, queueStates: new QueueStates(client, keys) })
    const sweep = () => {
      sweepHeld(scriptClient, client, (name) => queues.get(name)).catch((error: unknown) => {
        if (!isStoreError(error)) log.warn({ err: error }, 'the held calls of dead processes could not be given up; it is tried again')
      })
    }
    this.sweeps = setInterval(sweep, DEFAULTS.heldBeatMs)
    this.sweeps.unref()
    return { client, scriptClient, queues, dispatcher: new Dispatcher(client, scriptClient, queues, clock, log, { look, notes: this.notes }) }
  }

  private hear(message: string): void {
    let notice: { rules?: string; cancel?: { queue: string; id: string }; alert?: unknown }
    try {
      notice = JSON.parse(message)
    } catch (error) {
      // Every client of this Redis can publish on the channel.
      this.parts.log.warn({ err: error }, 'a notice could not be read')
      return
    }
    if (notice.rules !== undefined) this.parts.rulesChanged()
    if (notice.alert !== undefined) this.onAlert?.(notice.alert)
    if (notice.cancel !== undefined) this.held.get(notice.cancel.queue)?.cancel(notice.cancel.id)
    if (notice.cancel?.queue === this.parts.options.queue) for (const worker of this.workers) worker.abort(notice.cancel.id)
  }
}
