import { randomUUID } from 'node:crypto'
import { type Job, Queue, UnrecoverableError, Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { ConfigInvalid } from '../model/errors.js'
import { withoutArguments } from '../model/secrets.js'
import { DAY, SECOND } from '../model/time.js'
import type { AlertPlan, AlertSpec } from '../policy/alert.js'
import type { Keys } from '../redis/keys.js'
import { isStoreError } from '../redis/store-error.js'
import type { CallMetrics } from '../telemetry/call-metrics.js'
import { AlertEvaluator, type AlertFigures, type AlertFinding } from './evaluate.js'
import { type AlertNotice, cloudEvent } from './notice.js'
import { WebhookSender } from './webhook.js'

/** How often alerts are evaluated. */
const EVALUATE_MS = 10 * SECOND
const TRIES = 12
const FIRST_RETRY_MS = 5 * SECOND
/** How long a notice that was sent is remembered, so that it is not sent twice. */
const REMEMBERED_SECONDS = DAY / SECOND
/** The BullMQ queue of notices: no queue of a user's can have the name. */
export const ALERT_QUEUE = '~alerts'
/** How long the states of alerts are kept after the last evaluation. */
const STATES_MS = 8 * DAY

/** A firing alert in Redis. */
interface AlertState extends AlertFinding {
  readonly id: string
  readonly sinceMs: number
  /** Whether its firing was told. */
  readonly told: boolean
  /** When it was first not found any more; null while it is. */
  readonly missedMs: number | null
}

interface NoticeJob {
  readonly webhook: string
  readonly notice: AlertNotice
}

export interface AlertsParts {
  readonly redis: Redis
  readonly keys: Keys
  readonly namespace: string
  readonly log: Logger
  readonly metrics: CallMetrics
  readonly figures: AlertFigures
  readonly plan: () => AlertPlan
  /** Whether this process dispatches: it alone evaluates. */
  readonly dispatches: () => boolean
  /** Whether this process works for the namespace: it sends notices then. */
  readonly works: () => boolean
  readonly webhookHosts: readonly string[]
  readonly everyMs?: number
}

/**
 * Evaluates the alerts of the policy, and tells of them once when they fire and once when they end.
 *
 * Model. The process that holds the dispatcher's lease evaluates, each 10 s. What fires stands in one hash (`/alerts`), so the next holder of the lease
 * goes on with it. A notice goes to the log, by the channel of notices to the listeners of every process, and as a job per webhook to the queue
 * `~alerts`, which every process with workers works: BullMQ retries it, and gives it to another process where one dies.
 *
 *     (none) ── found ──▶ entered ── told ──▶ firing ── not found for 20 s ──▶ ended, told ──▶ (none)
 *                            ▲                  │ ▲
 *                            └── process died ──┘ └── found again
 *
 * An entry is written (HSETNX) before it is told, and marked after it: where the process dies in between, the next one tells it again. Jobs carry the id
 * of the entry, so a webhook is told once all the same; a line of the log and an event may come twice. Where two processes believe that they hold the
 * lease, one of them enters. An end is told before the entry is removed, in the same way.
 *
 * An alert whose figures cannot be read stays as it is. While Redis is away nothing is evaluated.
 */
export class Alerts {
  private readonly evaluator: AlertEvaluator
  private readonly listeners = new Set<(notice: AlertNotice) => void>()
  private readonly sender: WebhookSender
  private readonly timer: NodeJS.Timeout
  private queue: Queue | undefined
  private worker: Worker | undefined
  private evaluating: Promise<void> = Promise.resolve()
  private closed = false

  constructor(private readonly parts: AlertsParts) {
    this.evaluator = new AlertEvaluator(parts.figures)
    this.sender = new WebhookSender(parts.webhookHosts)
    this.timer = setInterval(() => this.tick(), parts.everyMs ?? EVALUATE_MS)
    this.timer.unref()
  }

  /** Calls a function with every notice, whichever process evaluates. Returns a function that ends it. */
  on(listener: (notice: AlertNotice) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** A notice came by the channel. */
  heard(notice: AlertNotice): void {
    for (const listener of this.listeners) {
      try {
        listener(notice)
      } catch (error) {
        this.parts.log.error({ err: error }, "a listener to 'alert' failed")
      }
    }
  }

  async close(gone: boolean): Promise<void> {
    this.closed = true
    clearInterval(this.timer)
    if (!gone) await this.evaluating
    await this.worker?.close(gone)
    if (!gone) await this.queue?.close()
    await this.sender.close()
  }

  private tick(): void {
    const plan = this.parts.plan()
    if (this.parts.works()) this.startSending(plan)
    if (!this.parts.dispatches()) return
    this.evaluating = this.evaluating
      .then(() => (this.closed ? undefined : this.evaluate(plan)))
      .catch((error: unknown) => {
        // An outage of Redis is logged by the circuit breaker, once.
        if (!isStoreError(error)) this.parts.log.error({ err: withoutArguments(error) }, 'alerts could not be evaluated; it is tried again')
      })
  }

  /** One evaluation. @param nowMs for tests */
  async evaluate({ list }: AlertPlan, nowMs = Date.now()): Promise<void> {
    const { redis, keys } = this.parts
    const stored = await redis.hgetall(keys.alerts)
    if (list.length === 0 && Object.keys(stored).length === 0) return
    const states = new Map(Object.entries(stored).map(([key, text]) => [key, JSON.parse(text) as AlertState]))
    const found = new Map<string, AlertFinding>()
    const unknown = new Set<string>()
    this.evaluator.begin()
    for (const spec of list) {
      try {
        for (const finding of await this.evaluator.evaluate(spec, nowMs)) found.set(keyOf(finding), finding)
      } catch (error) {
        if (isStoreError(error)) throw error
        unknown.add(spec.name)
        this.parts.log.debug({ err: error, alert: spec.name }, 'the figures of an alert are not known')
      }
    }
    for (const [key, finding] of found) await this.holds(key, finding, states.get(key), list, nowMs)
    for (const [key, state] of states) if (!found.has(key) && !unknown.has(state.alert)) await this.missed(key, state, list, nowMs)
    if (found.size + states.size > 0) await redis.pexpire(keys.alerts, STATES_MS)
  }

  private async holds(key: string, finding: AlertFinding, known: AlertState | undefined, list: readonly AlertSpec[], nowMs: number): Promise<void> {
    const { redis, keys } = this.parts
    let state = known
    if (state === undefined) {
      state = { ...finding, id: randomUUID(), sinceMs: nowMs, told: false, missedMs: null }
      // Another process may have found it at the same moment.
      if ((await redis.hsetnx(keys.alerts, key, JSON.stringify(state))) === 0) return
    }
    if (state.told && state.missedMs === null) return
    if (!state.told) await this.tell(state, 'firing', list, nowMs)
    await redis.hset(keys.alerts, key, JSON.stringify({ ...state, told: true, missedMs: null }))
  }

  private async missed(key: string, state: AlertState, list: readonly AlertSpec[], nowMs: number): Promise<void> {
    const { redis, keys, everyMs = EVALUATE_MS } = this.parts
    if (state.missedMs === null) {
      await redis.hset(keys.alerts, key, JSON.stringify({ ...state, missedMs: nowMs }))
      return
    }
    // Figures come in steps: one look that does not find it is not its end.
    if (nowMs - state.missedMs < 2 * everyMs) return
    if (state.told) await this.tell(state, 'ended', list, nowMs)
    await redis.hdel(keys.alerts, key)
  }

  private async tell(
    { id, sinceMs, told: _told, missedMs: _missed, ...finding }: AlertState,
    state: AlertNotice['state'],
    list: readonly AlertSpec[],
    nowMs: number,
  ) {
    const { redis, keys, log, metrics, namespace } = this.parts
    const since = new Date(sinceMs).toISOString()
    const notice: AlertNotice = { ...finding, id, state, since, until: state === 'ended' ? new Date(nowMs).toISOString() : null, namespace }
    const to = list.find(({ name }) => name === finding.alert)?.to ?? []
    if (to.length > 0) await this.toSend().addBulk(to.map((webhook) => this.job(webhook, notice)))
    await redis.publish(keys.notices, JSON.stringify({ alert: notice }))
    metrics.cells.add('alerts', 1, notice.alert, state)
    if (state === 'firing') log.warn({ alert: notice }, `alert ${notice.alert}: ${notice.sentence}`)
    else log.info({ alert: notice }, `alert ${notice.alert} has ended: ${notice.subject}`)
  }

  private job(webhook: string, notice: AlertNotice) {
    const kept = { age: REMEMBERED_SECONDS, count: 1000 }
    const opts = { jobId: `${notice.id}.${notice.state}.${webhook}`, attempts: TRIES, backoff: { type: 'exponential', delay: FIRST_RETRY_MS } }
    return { name: notice.alert, data: { webhook, notice } satisfies NoticeJob, opts: { ...opts, removeOnComplete: kept, removeOnFail: kept } }
  }

  private toSend(): Queue {
    const { redis, keys } = this.parts
    this.queue ??= new Queue(ALERT_QUEUE, { connection: redis, prefix: keys.prefix }).on('error', () => {})
    return this.queue
  }

  private startSending({ webhooks }: AlertPlan): void {
    if (this.worker !== undefined || this.closed || Object.keys(webhooks).length === 0) return
    const { redis, keys, log } = this.parts
    this.worker = new Worker<NoticeJob>(ALERT_QUEUE, (job) => this.send(job), { connection: redis, prefix: keys.prefix, concurrency: 4 })
    this.worker.on('error', (error) => log.debug({ err: withoutArguments(error) }, 'the worker of alert notices'))
    this.worker.on('failed', (job, error) => {
      if (job?.finishedOn !== undefined)
        log.error({ err: error, webhook: job.data.webhook, alert: job.data.notice.alert }, 'a webhook was not told of an alert')
    })
  }

  private async send({ id, data: { webhook, notice } }: Job<NoticeJob>): Promise<void> {
    const spec = this.parts.plan().webhooks[webhook]
    if (spec === undefined) throw new UnrecoverableError(`the rules name no webhook ${webhook} any more`)
    try {
      await this.sender.send(webhook, spec, id as string, JSON.stringify(cloudEvent(notice)))
    } catch (error) {
      if (error instanceof ConfigInvalid) this.parts.log.error({ err: error, webhook }, 'a webhook cannot be told of an alert')
      throw error
    }
  }
}

function keyOf({ alert, kind, subject }: AlertFinding): string {
  return `${alert}/${kind}/${subject}`
}
