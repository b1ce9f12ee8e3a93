import type { Job } from 'bullmq'
import type { Registry } from 'prom-client'
import type { ApiKeys } from './administration/api-keys.js'
import { capacityRule, capacityRuleName } from './administration/capacity.js'
import { putRule } from './administration/change.js'
import { Meters } from './administration/meters.js'
import { Overrides } from './administration/overrides.js'
import { pause, resume } from './administration/pauses.js'
import { PolicyClient } from './administration/policy-client.js'
import { Rules } from './administration/rules.js'
import type { UsageFigures } from './admission/usage-reader.js'
import { type FetchIdentity, heldFetch } from './agents/held-fetch.js'
import { Alerts } from './alerts/alerts.js'
import type { AlertNotice } from './alerts/notice.js'
import { Gate } from './gate/gate.js'
import { type CallsPage, type CallsQuery, checkCallsQuery, checkLinesQuery, type LinesPage, type LinesQuery } from './gate/waiting.js'
import type { Health } from './health/health.js'
import { healthAlone, readHealth } from './health/read-health.js'
import type { History, RuleStats, Violations } from './history/answers.js'
import { NUMBER } from './history/point.js'
import { HistoryReader } from './history/reader.js'
import { StatsOfRules } from './history/rule-stats.js'
import { SERIES } from './history/series.js'
import { CustomLimiter, type CustomSpec } from './limiter/custom.js'
import { CombinedLimiter, DirectLimiter, type Limiter, type Metered } from './limiter/limiter.js'
import { checkLimiterLimits, limitOfEnvironment } from './limiter/spec.js'
import type { LimitSpec } from './limits/limit.js'
import type { Call } from './model/call.js'
import { DEFAULTS } from './model/defaults.js'
import { ConfigInvalid, rulesMissing, TollgateError } from './model/errors.js'
import { approximateMs } from './model/time.js'
import type { UpstreamName } from './model/upstream.js'
import { openParts, type TollgateParts } from './open.js'
import { checkWorker, type TollgateOptions } from './options.js'
import { NO_OUTAGE, type OutageFigures } from './outage/outage.js'
import type { RuleSet } from './policy/compile.js'
import type { Pause } from './policy/pause.js'
import { touchedLines } from './policy/touched-lines.js'
import type { Explanation } from './queue/explain.js'
import type { ForeignWorker } from './queue/foreign-workers.js'
import type { Handler, WorkerOptions } from './queue/handler.js'
import type { HeldCalls } from './queue/held-calls.js'
import type { QueueRuntime } from './queue/runtime.js'
import type { Ticket } from './queue/ticket.js'
import type { Worker } from './queue/worker.js'
import type { LedgerFigures } from './store/store.js'
import { type ClosableStore, closableStore } from './store/store-guard.js'
import { metricReader } from './telemetry/read-metrics.js'
import { Capacities, type UpstreamStats } from './upstream/capacities.js'
import { UpstreamTracker } from './upstream/tracker.js'
import { faultMessage, show } from './validation/faults.js'
import { actorOf } from './validation/requests.js'

/** Figures of a Tollgate. */
export interface Stats {
  /** The sums of the ledger: what was charged, and how each charge ended. */
  ledger(): Promise<LedgerFigures>
  /** The limits that agents reported, beside those of the rules. */
  upstream(): Promise<readonly UpstreamStats[]>
  /** Whether Redis is away for this process, and what the process decided without it. */
  outage(): OutageFigures
  /** How many usages that agents reported to this process could not be read, or were capped. */
  usage(): UsageFigures
  /** What a rule has decided since the last reset, in all processes of the namespace. @throws RequestInvalid */
  rule(name: string): Promise<RuleStats>
  /** The same of all rules in force. */
  all(): Promise<readonly RuleStats[]>
  /** Forgets what `rule`, `all` and `violations` tell; the history stays. */
  reset(): Promise<void>
  /** The users, addresses and endpoints whose calls found no room most often. */
  violations(): Promise<Violations>
}

/** One namespace in one process: enqueue, workers, the gate without the queue, limiters, and changes of the policy. */
export class Tollgate {
  /** The gate without the queue. */
  readonly gate: Gate
  readonly rules: Rules
  /** Exceptions from rules, for a limited time; and the audit of every change. */
  readonly overrides: Overrides
  readonly stats: Stats
  /** What happened in the last 24 hours by the minute, and in the last 30 days by the hour. */
  readonly history: History
  readonly capacity: Capacities
  /** What limits have counted, and blocks of agents: to be read and reset. */
  readonly meters: Meters
  /** The prefix of a plain BullMQ `Queue` whose jobs are to pass the gate: `new Queue(queue, { prefix })`. */
  readonly prefix: string
  readonly queue: string
  private readonly store: ClosableStore
  private readonly tracker: UpstreamTracker
  private runtime: QueueRuntime | undefined
  private readonly policyClient: PolicyClient
  /** Holds the calls of `fetch` and `gateProcessor`; made when first needed. */
  private held: HeldCalls | undefined
  private closing: Promise<void> | undefined
  private registry: Promise<Registry> | undefined
  /** Undefined in a process without a Redis. */
  private alerts: Alerts | undefined

  /** @throws ConfigInvalid, RulesInvalid, RULES_MISSING, REDIS_UNAVAILABLE */
  static async open(options: TollgateOptions = {}): Promise<Tollgate> {
    const tollgate = new Tollgate(await openParts(options))
    try {
      tollgate.runtime = tollgate.parts.openQueue?.(() => tollgate.policyClient.refresh(), tollgate.tracker)
      tollgate.openAlerts()
      await tollgate.policyClient.syncUses()
      return tollgate
    } catch (error) {
      await tollgate.close()
      throw error
    }
  }

  private constructor(private readonly parts: TollgateParts) {
    this.prefix = parts.keys.prefix
    this.queue = parts.options.queue
    this.store = closableStore(parts.store, parts.noteReset)
    this.gate = new Gate(parts.resolver, this.store, parts.usage, parts.metrics, parts.recorder)
    this.policyClient = new PolicyClient({ ...parts, actor: parts.options.actor, changed: (before) => this.wake(before) })
    this.rules = new Rules(this.policyClient)
    this.overrides = new Overrides(this.policyClient, parts.options.longestOverrideMs, () => this.runtime?.startLifted())
    const reported = (agent: string, blocks: boolean, cut: boolean) => {
      if (blocks) parts.metrics.cells.add('blocks', 1, agent)
      if (cut) parts.metrics.cells.add('cuts', 1, agent)
    }
    this.tracker = new UpstreamTracker({ ...parts, store: this.store, reported })
    parts.outage?.followRules(() => this.policyClient.sync())
    parts.outage?.followBlocks((value) => this.tracker.blockedMs(value))
    this.capacity = new Capacities(parts.resolver, this.store, this.tracker)
    const lifted = async (name: UpstreamName) => {
      await this.tracker.lifted(name)
      this.gate.rulesChanged()
      await this.runtime?.stirReturned(name)
    }
    this.meters = new Meters({ resolver: parts.resolver, store: this.store, actor: parts.options.actor, lifted })
    const ofRules = new StatsOfRules(parts.series, parts.recorder, () => parts.resolver.rules.specs.map(({ name }) => name))
    const { resolver, meters } = { ...parts, meters: this.meters }
    this.history = new HistoryReader({
      series: parts.series,
      seen: () => this.runtime?.seen() ?? Promise.resolve(null),
      call: (id) => this.needsQueue().callHistory(id),
      budgets: {
        get specs() {
          return resolver.rules.specs
        },
        get rules() {
          return resolver.rules.rules
        },
        usage: (rule, value) => meters.get({ rule, value: [value] }),
      },
    })
    this.stats = {
      rule: (name) => ofRules.rule(name),
      all: () => ofRules.all(),
      reset: () => ofRules.reset(),
      violations: () => ofRules.violations(),
      ledger: async () => this.store.figures(),
      upstream: () => this.capacity.stats(),
      outage: () => parts.outage?.figures() ?? NO_OUTAGE,
      usage: () => ({ ...parts.usage.figures }),
    }
  }

  /**
   * A limiter by key, without rules: one limit or several, or an algorithm of your own. Without an argument, TOKEN_BUCKET_SIZE and TOKEN_REFILL_RATE
   * (per second) are the limit. Limiters with the same `name` share their usage, and so do those without a name whose limits are the same.
   * @throws ConfigInvalid naming field, value and bound
   */
  limiter(limits?: LimitSpec | readonly LimitSpec[]): DirectLimiter
  limiter<State>(algorithm: CustomSpec<State>): CustomLimiter<State>
  limiter<State>(spec: LimitSpec | readonly LimitSpec[] | CustomSpec<State> = limitOfEnvironment(process.env)): DirectLimiter | CustomLimiter<State> {
    if (spec !== null && typeof spec === 'object' && 'check' in spec) return new CustomLimiter(spec, this.store, this.parts.metrics)
    const limits = checkLimiterLimits(spec)
    const findOwn = this.policyClient.ruleSet.owns.finder((message) => new ConfigInvalid(`limiter.${message}`))
    return new DirectLimiter(limits, findOwn, this.store, this.parts.keys, this.parts.ledgerNames, this.parts.metrics)
  }

  /** Several limiters as one: each must have room for the call, or none is charged. @throws ConfigInvalid for an algorithm of your own */
  all(limiters: readonly (Limiter & Metered)[]): Limiter<string | readonly string[]> {
    if (!Array.isArray(limiters) || limiters.length === 0 || limiters.some((limiter) => !(limiter instanceof DirectLimiter) || limiter.store !== this.store))
      throw new ConfigInvalid(
        'all must be given a list of limiters of this Tollgate, one at least; one with an algorithm of your own cannot be charged together with others',
      )
    return new CombinedLimiter(limiters, this.store, this.parts.ledgerNames, this.parts.metrics)
  }

  /**
   * Sets the capacity of a resource (the agent of that name), in all processes within a second;
   * null removes it. It is a rule beside the declared ones. @throws CallInvalid; RulesInvalid where a declared rule has its name
   */
  async setCapacity(resource: string, limit: number | null, per = 'minute', { by }: { by?: string | undefined } = {}): Promise<void> {
    const name = capacityRuleName(resource)
    const rule = limit === null ? null : capacityRule(resource, limit, per)
    await this.policyClient.change(putRule(name, rule, 'capacity.set', actorOf(by, this.policyClient.actor)))
  }

  /**
   * Pauses the calls to an agent, of a user, team or org, or that a rule covers: they stay in their lines, are not charged and use up no attempt.
   * Running calls go on. At the gate, where there is no line, such calls are refused with the code PAUSED. Returns false where the subject was paused
   * already. @throws RequestInvalid, RULE_UNKNOWN
   */
  pause(subject: Pause['for'], options: { by?: string | undefined; reason?: string | undefined } = {}): Promise<boolean> {
    return pause(this.policyClient, subject, options)
  }

  /** Ends such a pause. Returns false where the subject was not paused. @throws RequestInvalid */
  resume(subject: Pause['for'], options: { by?: string | undefined } = {}): Promise<boolean> {
    return resume(this.policyClient, subject, options)
  }

  /** The pauses in force. */
  paused(): readonly Pause[] {
    return this.policyClient.ruleSet.policy.pauses
  }

  /** API keys of clients: issued, revoked and found. @throws REDIS_REQUIRED */
  get keys(): ApiKeys {
    if (this.parts.apiKeys === undefined) throw new TollgateError('REDIS_REQUIRED', 'API keys are kept in Redis: this Tollgate keeps its limits in memory')
    return this.parts.apiKeys
  }

  /** Checks the call's rules and adds its job. @throws CallInvalid, RateLimitExceeded; then nothing is charged or enqueued */
  async enqueue(call: Call): Promise<Ticket> {
    return this.needsQueue().enqueuer.enqueue(call)
  }

  /** Returns one ticket per call, in order. The ticket of a refused call carries the `error`; the others are enqueued. */
  async enqueueMany(calls: readonly Call[]): Promise<Ticket[]> {
    return this.needsQueue().enqueuer.enqueueMany(calls)
  }

  /** Starts a worker in this process. @throws ConfigInvalid, REDIS_REQUIRED, RULES_MISSING */
  worker(handler: Handler, options: WorkerOptions = {}): Worker {
    checkWorker(handler, options)
    if (options.requireRules === true && this.policyClient.ruleSet.specs.length === 0) throw rulesMissing()
    this.parts.resolver.knowEndpoints(handler.endpoints ?? {})
    return this.needsQueue().worker(handler, options)
  }

  /**
   * Holds calls in this process: `run` waits in the lines of the namespace, and calls its handler here. Nothing of a payload is written to Redis.
   * @throws ConfigInvalid, REDIS_REQUIRED
   */
  hold(options: Pick<WorkerOptions, 'concurrency' | 'timeoutMs' | 'leaseMs' | 'observer'> = {}): HeldCalls {
    checkWorker(() => {}, options)
    return this.needsQueue().hold(options)
  }

  /**
   * A `fetch` for the clients of an agent: its requests wait in line until they may start, and are settled by the usage in their answers.
   * @param of whose calls they are @throws REDIS_REQUIRED
   */
  fetch(agent: string, of: FetchIdentity = {}): typeof fetch {
    return heldFetch(this.ownHeld(), agent, of)
  }

  /**
   * Gates a processor of a BullMQ `Worker` of one's own, on any queue: the processor is called when the call of its job may start. Until then the job
   * stays with its worker, and takes a place of its concurrency. What the processor returns or throws reaches BullMQ as it is.
   * @param options.callOf reads the call from the job; default: a call to the agent that the job is named after. @throws REDIS_REQUIRED
   */
  gateProcessor<BullJob extends Job, Result>(
    processor: (job: BullJob, token?: string, signal?: AbortSignal) => Promise<Result>,
    { callOf = (job) => ({ agent: job.name, cost: { requests: 1 } }) }: { callOf?: (job: BullJob) => Call } = {},
  ): (job: BullJob, token?: string, signal?: AbortSignal) => Promise<Result> {
    const held = this.ownHeld()
    return (job, token, signal) => held.run(callOf(job), () => processor(job, token, signal), { signal })
  }

  /**
   * foreignWorker: calls a function when a plain BullMQ `Worker` has taken a job of this queue, which then passed no gate; it is logged once, too.
   * alert: when an alert of the rules file fires, or has ended, in any process. Returns a function that ends it. @throws REDIS_REQUIRED
   */
  on(event: 'foreignWorker', listener: (found: ForeignWorker) => void): () => void
  on(event: 'alert', listener: (notice: AlertNotice) => void): () => void
  on(event: 'foreignWorker' | 'alert', listener: ((found: ForeignWorker) => void) & ((notice: AlertNotice) => void)): () => void {
    if (event !== 'foreignWorker' && event !== 'alert') throw new ConfigInvalid(faultMessage('event', 'must be foreignWorker or alert', show(event)))
    if (typeof listener !== 'function') throw new ConfigInvalid(faultMessage('listener', 'must be a function', show(listener)))
    const { foreignWorkers } = this.needsQueue()
    return event === 'alert' ? (this.alerts as Alerts).on(listener) : foreignWorkers.on(listener)
  }

  private openAlerts(): void {
    const { runtime } = this
    const { redis, keys, log, metrics, options } = this.parts
    if (runtime === undefined || redis === undefined) return
    const figures = {
      history: this.history,
      rules: () => this.policyClient.ruleSet.specs.map(({ name }) => name),
      // A call that several rules cover counts at each.
      unchecked: async () => Math.max(0, ...(await this.stats.all()).map(({ unchecked }) => unchecked)),
    }
    const alerts = new Alerts({
      ...{ redis, keys, log, metrics, figures },
      namespace: options.namespace ?? DEFAULTS.namespace,
      webhookHosts: options.webhookHosts,
      plan: () => this.policyClient.ruleSet.policy.alerts,
      dispatches: () => runtime.dispatches,
      works: () => runtime.works,
    })
    runtime.onAlert = (notice) => alerts.heard(notice as AlertNotice)
    this.alerts = alerts
  }

  /** The metrics of this process and its namespace, as a registry of prom-client of its own. Counted from `open` on; the same registry each time. */
  metrics(): Promise<Registry> {
    this.registry ??= this.makeRegistry()
    return this.registry
  }

  private async makeRegistry(): Promise<Registry> {
    // Here and not at the top: most processes need no registry.
    const { makeRegistry } = await import('./telemetry/metrics.js')
    const { metrics, outage } = this.parts
    const sources = {
      outage: () => this.stats.outage(),
      usage: () => this.stats.usage(),
      ledger: () => this.stats.ledger(),
      upstream: () => this.stats.upstream(),
      overrides: () => this.policyClient.ruleSet.overrides.length,
      pauses: () => this.paused().length,
      dispatches: () => this.runtime?.dispatches ?? true,
      lines: () => this.someLines(),
    }
    const failures = () => outage?.breaker.failures ?? 0
    return makeRegistry(metrics, metricReader(metrics, sources), failures)
  }

  /** Up to a thousand lines. */
  private async someLines(): Promise<LinesPage['lines']> {
    const lines: LinesPage['lines'][number][] = []
    let cursor: string | null | undefined
    for (let page = 0; page < 5 && cursor !== null; page++) {
      const read: LinesPage = await this.lines({ limit: 200, cursor })
      lines.push(...read.lines)
      cursor = read.cursor
    }
    return lines
  }

  private ownHeld(): HeldCalls {
    this.held ??= this.hold()
    return this.held
  }

  /**
   * The state of a call, what it waits for, and for how long.
   * @param call its id; or the call itself, with its id: then it is made sure that the id is not that of another call @throws CALL_UNKNOWN, ID_TAKEN
   */
  async explain(call: string | Call): Promise<Explanation> {
    return this.needsQueue().explain(call)
  }

  /**
   * The calls that have not ended, and what each waits for, page by page; without a Redis those that wait in `acquire` of this process.
   * @throws RequestInvalid naming field, value and bound; StoreUnavailable
   */
  async calls(query: CallsQuery = {}): Promise<CallsPage> {
    const checked = checkCallsQuery(query)
    return this.parts.openQueue === undefined ? this.gate.waitingCalls(checked) : this.needsQueue().calls(checked)
  }

  /** The lines in which calls wait, page by page; within a page the longest first. @throws as `calls` */
  async lines(query: LinesQuery = {}): Promise<LinesPage> {
    const checked = checkLinesQuery(query)
    return this.parts.openQueue === undefined ? this.gate.waitingLines(checked) : this.needsQueue().lines(checked)
  }

  /** The result of a call whose ticket is gone. @throws as `ticket.result` */
  async result(id: string, options: { signal?: AbortSignal | undefined } = {}): Promise<unknown> {
    return this.needsQueue().result(id, options.signal)
  }

  /** Whether work flows; if not, what holds it up, since when, whom it hurts, and the one thing to do. Never throws: that Redis is away is a verdict, too. */
  async health(): Promise<Health> {
    const { keys, series, resolver, clock, outage } = this.parts
    const known = { keys, series, queue: this.queue, rules: resolver.rules }
    if (this.runtime !== undefined) return readHealth({ ...known, redis: this.runtime.redis }, () => outage?.figures() ?? NO_OUTAGE)
    await this.parts.recorder.sync()
    const [total] = await series.totals([SERIES.namespace])
    return healthAlone(this.gate.waitingLines(checkLinesQuery({})), known, approximateMs(clock), total?.numbers.get(NUMBER.lastStart) ?? null)
  }

  /** Whether Redis answers, and whether a process of the namespace dispatches its lines. */
  async reach(): Promise<{ readonly redis: boolean; readonly dispatched: boolean }> {
    return this.needsQueue().reach()
  }

  /**
   * Cancels a call: removes it from its line, or aborts its handler. The room that it held is
   * released; a call that reached its agent stays charged. Returns false if it had finished.
   * @param call its id; or the call itself, with its id: then it is made sure that the id is not that of another call
   * @throws CALL_UNKNOWN, ID_TAKEN
   */
  async cancel(call: string | Call): Promise<boolean> {
    return this.needsQueue().cancel(call)
  }

  /** Closes workers, after their running calls, and connections. While Redis is gone, steps that need it are left out. */
  close(): Promise<void> {
    this.closing ??= this.shut()
    return this.closing
  }

  private async shut(): Promise<void> {
    const waiting = this.gate.close()
    this.policyClient.refuseChanges()
    const gone = this.runtime?.gone === true
    let reading: Promise<void> | undefined
    try {
      if (!gone) await waiting
      await this.alerts?.close(gone)
      await this.runtime?.close()
      await this.parts.recorder.close(gone)
      reading = this.policyClient.close()
      if (!gone) await reading
      await this.tracker.close(gone)
    } finally {
      reading ??= this.policyClient.close()
      this.store.close()
      await this.parts.outage?.close()
      this.parts.leave()
    }
  }

  /** @throws CLOSED, REDIS_REQUIRED */
  private needsQueue(): QueueRuntime {
    if (this.closing !== undefined) throw new TollgateError('CLOSED', 'this Tollgate was closed')
    if (this.runtime === undefined) throw new TollgateError('REDIS_REQUIRED', 'the queue needs a Redis: this Tollgate keeps its limits in memory')
    return this.runtime
  }

  /** After a change of the rules: calls that wait may have room now. */
  private wake(before: RuleSet): void {
    this.gate.rulesChanged()
    this.runtime?.wakeAll(touchedLines(before, this.parts.resolver.rules))
  }
}
