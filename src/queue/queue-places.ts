import type { Redis } from 'ioredis'
import { DEFAULTS } from '../model/defaults.js'
import { SECOND } from '../model/time.js'
import type { Keys } from '../redis/keys.js'
import { QUEUE_STATE, type QueueStateCode } from '../store/redis/protocol.js'
import type { QueueBudget } from '../store/redis/script-client.js'

/**
 * So many calls without a claim may wait for workers that are all busy: the next free place is taken at once. More of them, up to a part of the other
 * jobs that wait there, so that a long list of those does not keep calls of a line back that came before them.
 */
const UNCLAIMED_AT_LEAST = 8
const UNCLAIMED_AT_MOST = 64
const UNCLAIMED_PART = 0.25
/** The same of a queue without known workers, when it has taken all that were woken before. */
const LARGEST_WINDOW = 64
/** How long ahead of their places calls are woken where places turn over fast. */
const AHEAD_MS = DEFAULTS.lookaheadMs + 40
/** How long a queue that takes nothing is waited for before its calls go to a line of their own. */
const SHUT_AFTER_MS = 500
/** What the front door is told of a closed queue counts for so long; it is told again in time. */
const TOLD_FOR_MS = 1500
const TELL_AGAIN_MS = 500
/** A queue that nothing was seen of for so long is forgotten. */
const FORGET_AFTER_MS = 10 * SECOND
/** How often a queue is looked at of which no call is in sight. */
const LOOK_EVERY_MS = 200

/** What a worker reported last: see `lua/report-places.lua`. */
export interface WorkerReport {
  readonly id: string
  readonly queue: string
  readonly untilMs: number
  /** When BullMQ has given its jobs to others, if it is dead. */
  readonly forgottenMs: number
  readonly places: number
  readonly running: number
  readonly perSecond: number
}

export function parseReport([id, text]: [string, string]): WorkerReport {
  const [untilMs = 0, forgottenMs = 0, places = 0, running = 0, perSecond = 0] = text.split(' ', 5).map(Number)
  return { id, queue: text.split(' ').slice(5).join(' '), untilMs, forgottenMs, places, running, perSecond }
}

/** What BullMQ has of a queue. */
interface Jobs {
  readonly active: number
  readonly waiting: number
  readonly paused: boolean
  readonly concurrency: number
}

/** What the dispatcher remembers of a queue from turn to turn. */
interface Known {
  seenMs: number
  lookedMs: number
  /** Since when it takes nothing; undefined while it does. */
  closedSinceMs: number | undefined
  /** Calls that were woken without a claim and may wait for a worker still. */
  unclaimed: string[]
  paused: boolean
  /** How many such calls may wait at once where no worker is known. */
  window: number
  told: QueueStateCode
  toldMs: number
}

/**
 * Knows how many calls each queue can take now, so that no call is woken whose room then waits for a worker.
 *
 * Model. The free places of a queue are those that its workers report, without the jobs that BullMQ has as active or waiting. A worker reports each
 * second, and when a place comes free after all were taken; what it runs is not read from its report, which is a second old, but from BullMQ. The
 * jobs of a worker that gives no report any more stay active in BullMQ until its locks end: until then as many as it reported last are left out.
 *
 * Calls for free places are woken with claims: a worker takes each of them at once. Where all places are taken, a few are woken without claims: they
 * hold nothing, and the next free place goes to them. So nothing depends on the reports being right: a queue whose workers are not known (BullMQ's
 * own, of another version) is woken in this way, more at a time while it takes what was woken.
 *
 * If the process dies, the next dispatcher begins anew: a few more calls without claims may be woken.
 */
export class QueuePlaces {
  private readonly known = new Map<string, Known>()
  private workers: readonly WorkerReport[] = []

  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
  ) {}

  /** Calls of these queues were seen, in lines or woken. */
  saw(queues: Iterable<string>, nowMs: number): void {
    for (const queue of queues) {
      const known = this.known.get(queue)
      if (known !== undefined) known.seenMs = nowMs
      else
        this.known.set(queue, {
          seenMs: nowMs,
          lookedMs: 0,
          closedSinceMs: undefined,
          unclaimed: [],
          paused: false,
          window: 1,
          told: QUEUE_STATE.OPEN,
          toldMs: 0,
        })
    }
  }

  /** Calls that were woken without a claim. */
  woke(ids: readonly string[]): void {
    for (const id of ids) this.known.get(id.slice(0, id.indexOf('/')))?.unclaimed.push(id)
  }

  /**
   * How many calls these queues can take now.
   * @param queues whose calls are in sight; others are looked at now and then, for the front door
   */
  async budgets(queues: ReadonlySet<string>, nowMs: number): Promise<ReadonlyMap<string, QueueBudget>> {
    this.saw(queues, nowMs)
    const looked = [...this.known].filter(([queue, { lookedMs }]) => queues.has(queue) || lookedMs + LOOK_EVERY_MS <= nowMs)
    if (looked.length === 0) return new Map()
    const [reports, ...states] = await Promise.all([this.redis.hgetall(this.keys.workers), ...looked.map(([queue, known]) => this.look(queue, known))])
    this.workers = Object.entries(reports).map(parseReport)
    const budgets = new Map<string, QueueBudget>()
    for (const [at, [queue, known]] of looked.entries()) {
      known.lookedMs = nowMs
      budgets.set(queue, this.budget(queue, known, states[at] as Jobs, nowMs))
    }
    await this.tell(looked, nowMs)
    await this.forget(nowMs)
    return budgets
  }

  private async look(queue: string, known: Known): Promise<Jobs> {
    const key = (name: string) => `${this.keys.prefix}:${queue}:${name}`
    const [active, waiting, prioritized, [paused = null, concurrency = null], scores] = await Promise.all([
      this.redis.llen(key('active')),
      this.redis.llen(key('wait')),
      this.redis.zcard(key('prioritized')),
      this.redis.hmget(key('meta'), 'paused', 'concurrency'),
      known.unclaimed.length === 0 ? [] : this.redis.zmscore(this.keys.passes, ...known.unclaimed),
    ])
    const woken = known.unclaimed.length
    known.unclaimed = known.unclaimed.filter((_, at) => (scores[at] ?? null) !== null)
    // All that were woken without a claim were taken: there is a worker.
    if (woken > 0 && known.unclaimed.length === 0) known.window = Math.min(LARGEST_WINDOW, 2 * known.window)
    return {
      active,
      waiting: waiting + prioritized,
      paused: paused !== null,
      concurrency: concurrency === null ? Number.POSITIVE_INFINITY : Number(concurrency),
    }
  }

  private budget(queue: string, known: Known, jobs: Jobs, nowMs: number): QueueBudget {
    const reports = this.workers.filter((report) => report.queue === queue)
    const live = reports.filter(({ untilMs }) => untilMs > nowMs)
    known.paused = jobs.paused
    const claimed = jobs.paused ? 0 : claimedBudget(live, reports, jobs)
    if (claimed > 0) known.closedSinceMs = undefined
    else known.closedSinceMs ??= nowMs
    const shut = known.closedSinceMs !== undefined && nowMs - known.closedSinceMs >= SHUT_AFTER_MS
    if (shut && live.length === 0 && known.unclaimed.length > 0) known.window = 1
    const others = jobs.waiting - known.unclaimed.length
    const ofBusy = Math.min(UNCLAIMED_AT_MOST, Math.max(UNCLAIMED_AT_LEAST, Math.floor(UNCLAIMED_PART * others)))
    const atMost = jobs.paused || claimed > 0 ? 0 : live.length > 0 ? ofBusy : known.window
    return { claimed, unclaimed: Math.max(0, atMost - known.unclaimed.length), shut }
  }

  /** Tells the front door which queues take no calls. */
  private async tell(looked: readonly (readonly [string, Known])[], nowMs: number): Promise<void> {
    const pipeline = this.redis.pipeline()
    for (const [queue, known] of looked) {
      const state = this.stateOf(queue, known, nowMs)
      if (state === known.told && (state === QUEUE_STATE.OPEN || nowMs - known.toldMs < TELL_AGAIN_MS)) continue
      if (state === QUEUE_STATE.OPEN) pipeline.hdel(this.keys.closedQueues, queue)
      else pipeline.hset(this.keys.closedQueues, queue, `${state} ${Math.ceil(nowMs + TOLD_FOR_MS)}`)
      known.told = state
      known.toldMs = nowMs
    }
    if (pipeline.length === 0) return
    pipeline.pexpire(this.keys.closedQueues, FORGET_AFTER_MS)
    await pipeline.exec()
  }

  private stateOf(queue: string, { closedSinceMs, window, paused }: Known, nowMs: number): QueueStateCode {
    if (closedSinceMs === undefined || nowMs - closedSinceMs < SHUT_AFTER_MS) return QUEUE_STATE.OPEN
    if (paused) return QUEUE_STATE.SHUT
    const isWorked = this.workers.some((report) => report.queue === queue && report.untilMs > nowMs)
    return isWorked ? QUEUE_STATE.FULL : window > 1 ? QUEUE_STATE.OPEN : QUEUE_STATE.SHUT
  }

  private async forget(nowMs: number): Promise<void> {
    for (const [queue, { seenMs }] of this.known) if (nowMs - seenMs > FORGET_AFTER_MS) this.known.delete(queue)
    const over = this.workers.filter(({ forgottenMs }) => forgottenMs <= nowMs).map(({ id }) => id)
    if (over.length > 0) await this.redis.hdel(this.keys.workers, ...over)
  }
}

/** The calls that the workers of a queue take at once. */
function claimedBudget(live: readonly WorkerReport[], reports: readonly WorkerReport[], { active, waiting, concurrency }: Jobs): number {
  if (live.length === 0) return 0
  const sum = (of: readonly WorkerReport[], what: (report: WorkerReport) => number) => of.reduce((total, report) => total + what(report), 0)
  const places = Math.min(
    concurrency,
    sum(live, (report) => report.places),
  )
  // Jobs of workers that are gone are active until their locks end.
  const lost = sum(
    reports.filter((report) => !live.includes(report)),
    (report) => report.running,
  )
  const soon = Math.floor((sum(live, (report) => report.perSecond) * AHEAD_MS) / SECOND)
  return Math.max(0, places + soon - Math.max(0, active - lost) - waiting)
}
