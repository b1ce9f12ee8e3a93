import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { Call } from './call.js'
import { type Clock, redisClock } from './clock.js'
import { DEFAULTS } from './config/defaults.js'
import { checkOptions, checkWorkerOptions, type TollgateOptions } from './config/options.js'
import type { Estimate } from './cost/estimate.js'
import { TollgateError } from './errors.js'
import { Checks } from './gate/checks.js'
import { Gate } from './gate/gate.js'
import { Drainer } from './queue/drainer.js'
import { Enqueuer } from './queue/enqueuer.js'
import { type Explanation, explain } from './queue/explain.js'
import { Queues } from './queue/queues.js'
import { Results } from './queue/results.js'
import { askAgain, gateId, readRecord } from './queue/stored.js'
import type { Ticket } from './queue/ticket.js'
import { type Handler, Worker, type WorkerOptions } from './queue/worker.js'
import { connect, waitUntilReady } from './redis/connection.js'
import { Keys } from './redis/keys.js'
import type { RuleSet } from './rules/compile.js'
import { checkRules, readRules } from './rules/read.js'
import type { RuleSpec } from './rules/rule.js'
import { RuleStore } from './rules/rule-store.js'
import { logConnection } from './telemetry/connection-log.js'
import { defaultLogger } from './telemetry/log.js'

/** The rules of a namespace. */
export interface Rules {
  /** Those in force, as they were declared. */
  list(): readonly RuleSpec[]
  /** Makes a file or a set the namespace's rules, everywhere within a second; usage is kept. @throws RulesInvalid, and nothing changes */
  apply(rules: string | readonly RuleSpec[]): Promise<void>
}

interface Parts {
  readonly client: Redis
  readonly owned: boolean
  readonly subscriber: Redis
  readonly keys: Keys
  readonly clock: Clock
  readonly log: Logger
  readonly gate: Gate
  readonly store: RuleStore
  readonly queue: string
  readonly estimate: Estimate | undefined
  readonly attempts: number | undefined
}

/** One namespace as one process sees it: its front door, its workers, its gate. */
export class Tollgate {
  /** The gate without the queue. */
  readonly gate: Checks
  readonly rules: Rules
  /** What a plain BullMQ `Queue` must be opened with, so that its jobs are gated: `new Queue(queue, { prefix })`. */
  readonly prefix: string
  readonly queue: string
  private readonly parts: Parts
  private readonly queues: Queues
  private readonly results: Results
  private readonly enqueuer: Enqueuer
  private readonly workers = new Set<Worker>()
  private readonly refresh: NodeJS.Timeout
  /** Workers and the drainer have a connection of their own: a flood through the front door must not stand before them. */
  private workerClient: Redis | undefined
  private workerGate: Gate | undefined
  private workerQueues: Queues | undefined
  private drainer: Drainer | undefined
  private reading: Promise<void> = Promise.resolve()
  private closing: Promise<void> | undefined

  /** @throws ConfigInvalid, RulesInvalid, REDIS_UNAVAILABLE */
  static async open(options: TollgateOptions = {}): Promise<Tollgate> {
    const checked = checkOptions(options)
    const keys = new Keys(checked.namespace ?? DEFAULTS.namespace)
    const specs =
      typeof checked.rules === 'string'
        ? (await readRules(checked.rules)).rules
        : checked.rules === undefined
          ? undefined
          : checkRules(checked.rules as RuleSpec[])
    const log = checked.logger ?? defaultLogger()
    const { client, owned } = connect(checked.redis)
    logConnection(client, log, 'connection to Redis')
    const subscriber = client.duplicate()
    logConnection(subscriber, log, 'subscription to Redis')
    try {
      await waitUntilReady(client, checked.connectTimeoutMs)
      await waitUntilReady(subscriber, checked.connectTimeoutMs)
      const store = new RuleStore(client, keys)
      const ruleSet = specs === undefined ? await store.read() : await store.declare(specs)
      const clock = checked.clock ?? redisClock
      const gate = new Gate(client, keys, clock, ruleSet)
      const tollgate = new Tollgate({
        client,
        owned,
        subscriber,
        keys,
        clock,
        log,
        gate,
        store,
        queue: checked.queue,
        estimate: checked.estimate,
        attempts: checked.attempts,
      })
      await subscriber.subscribe(keys.notices, keys.wake)
      return tollgate
    } catch (error) {
      subscriber.disconnect()
      if (owned) client.disconnect()
      throw error
    }
  }

  private constructor(parts: Parts) {
    this.parts = parts
    this.prefix = parts.keys.prefix
    this.queue = parts.queue
    this.queues = new Queues(parts.client, parts.keys)
    const queue = this.queues.get(parts.queue)
    this.results = new Results(queue, parts.client)
    this.enqueuer = new Enqueuer({ gate: parts.gate, queue, results: this.results, estimate: parts.estimate, attempts: parts.attempts })
    this.gate = new Checks(parts.gate, parts.estimate)
    this.rules = { list: () => parts.gate.rules.specs, apply: (rules) => this.applyRules(rules) }
    parts.subscriber.on('message', (channel: string, message: string) => this.hear(channel, message))
    parts.subscriber.on('ready', () => this.readRules())
    this.refresh = setInterval(() => this.readRules(), DEFAULTS.rulesRefreshMs)
    this.refresh.unref()
  }

  /** Asks the gate and adds the call's job. @throws CallInvalid, RateLimitExceeded; nothing is charged or enqueued then */
  async enqueue(call: Call): Promise<Ticket> {
    this.mustBeOpen()
    return this.enqueuer.enqueue(call)
  }

  /** One ticket each, in order; never throws for one that is refused, whose ticket carries the `error`. */
  async enqueueMany(calls: readonly Call[]): Promise<Ticket[]> {
    this.mustBeOpen()
    return this.enqueuer.enqueueMany(calls)
  }

  /** Starts a worker in this process. */
  worker(handler: Handler, options: WorkerOptions = {}): Worker {
    this.mustBeOpen()
    checkWorkerOptions(options)
    const { keys, queue, estimate, log, clock } = this.parts
    if (this.workerClient === undefined) {
      this.workerClient = this.parts.client.duplicate()
      logConnection(this.workerClient, log, "workers' connection to Redis")
      this.workerGate = new Gate(this.workerClient, keys, clock, this.parts.gate.rules)
      this.workerQueues = new Queues(this.workerClient, keys)
      this.drainer = new Drainer({ redis: this.workerClient, gate: this.workerGate, queues: this.workerQueues, clock, log })
      this.drainer.start()
    }
    const worker = new Worker({ gate: this.workerGate as Gate, redis: this.workerClient, queue, prefix: this.prefix, estimate, log }, handler, options)
    this.workers.add(worker)
    return worker
  }

  /** Where a call stands, what it waits for, and for how long. @throws CALL_UNKNOWN */
  async explain(id: string): Promise<Explanation> {
    this.mustBeOpen()
    return explain({ gate: this.parts.gate, redis: this.parts.client, queues: this.queues, queue: this.queue }, id)
  }

  /**
   * Takes a call back: out of its line, or aborted where it runs. Gives back what it held;
   * a call that reached its agent stays charged. Returns false if it had finished.
   * @throws CALL_UNKNOWN
   */
  async cancel(id: string): Promise<boolean> {
    this.mustBeOpen()
    const { gate, client, keys } = this.parts
    const key = gateId(this.queue, id)
    const record = await client.get(keys.call(key))
    const stored = readRecord(record)
    const job = await this.queues.get(this.queue).getJob(id)
    if (job === undefined) throw new TollgateError('CALL_UNKNOWN', `no call ${id} in queue ${this.queue}: it never was, or it finished too long ago`)
    if (job.finishedOn !== undefined) return false
    const held = stored?.state === 'started' ? 'R' : await gate.release(askAgain(gate, key, record), stored?.line ?? '')
    if (held === 'R' || (await job.isActive())) {
      await client.publish(keys.notices, JSON.stringify({ cancel: { queue: this.queue, id } }))
      return true
    }
    await job.remove()
    return true
  }

  /** Closes workers (waiting for their calls) and connections. Where Redis is gone nothing is waited for that needs it. */
  close(): Promise<void> {
    this.closing ??= this.shut()
    return this.closing
  }

  private async shut(): Promise<void> {
    clearInterval(this.refresh)
    const { client, owned, subscriber } = this.parts
    const gone = client.status !== 'ready'
    await Promise.all([...this.workers].map((worker) => worker.close(gone)))
    if (!gone) {
      await this.drainer?.close()
      await this.results.close()
      await this.reading
      await this.queues.close()
      await this.workerQueues?.close()
    } else {
      this.drainer?.stop()
      this.results.stop()
    }
    subscriber.disconnect()
    this.workerClient?.disconnect()
    if (owned) client.disconnect()
  }

  private mustBeOpen(): void {
    if (this.closing !== undefined) throw new TollgateError('CLOSED', 'this Tollgate was closed')
  }

  private async applyRules(rules: string | readonly RuleSpec[]): Promise<void> {
    this.mustBeOpen()
    const specs = typeof rules === 'string' ? (await readRules(rules)).rules : checkRules(rules)
    this.use(await this.parts.store.declare(specs))
  }

  private use(ruleSet: RuleSet): void {
    this.parts.gate.rules = ruleSet
    if (this.workerGate !== undefined) this.workerGate.rules = ruleSet
    this.drainer?.wakeAll()
  }

  private hear(channel: string, message: string): void {
    if (channel === this.parts.keys.wake) {
      this.drainer?.wake()
      return
    }
    const notice = JSON.parse(message) as { rules?: string; cancel?: { queue: string; id: string } }
    if (notice.rules !== undefined) this.readRules()
    if (notice.cancel?.queue === this.queue) for (const worker of this.workers) worker.abort(notice.cancel.id)
  }

  private readRules(): void {
    const { gate, store, log } = this.parts
    this.reading = this.reading
      .then(async () => {
        if (this.closing !== undefined) return
        const ruleSet = await store.read(gate.rules)
        if (ruleSet.version !== gate.rules.version) this.use(ruleSet)
      })
      .catch((error: unknown) => log.error({ err: error }, 'the rules could not be read; those known stay in force'))
  }
}
