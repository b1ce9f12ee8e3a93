import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { DEFAULTS } from '../model/defaults.js'
import type { Clock } from '../model/time.js'
import { readRecord } from '../store/redis/record.js'
import type { LineFront, ScriptClient } from '../store/redis/script-client.js'
import { scripts } from '../store/redis/scripts.js'
import type { Queues } from './queues.js'
import { restoredRequest } from './stored-call.js'

/** How many lines, and calls of them, one drain looks at. */
const LINES_AT_ONCE = 32
const CALLS_AT_ONCE = 192
const FEWEST_PER_LINE = 4
const PASSES_AT_ONCE = 100
/** A woken call whose job was not yet there is tried again after these times; then with the other passes. */
const PROMOTE_AGAIN_MS = [20, 50, 150, 500] as const
/** Whoever does not drain asks this often whether it should. */
const ELECTION_MS = DEFAULTS.dispatcherLeaseMs / 3
const IDLE_MS = DEFAULTS.dispatcherLeaseMs / 3

/** Whether a line, by its rule and scope value, is one of those that have to wait least. */
export type FirstLines = (rule: string, value: string) => boolean

/**
 * Wakes waiting calls. Every worker process has one; the one that holds the lease works,
 * at the earliest time any line can move and whenever room comes back. Should two of them
 * believe to hold it, nothing is woken twice: the script decides.
 *
 * What if it dies: before the script, another takes over when the lease ends. After the
 * script and before the jobs are promoted, they are found among the passes a second
 * later; and were nobody left to look, BullMQ brings each back at its estimated time.
 */
export class Dispatcher {
  private readonly id = randomUUID()
  private readonly redis: Redis
  private readonly scriptClient: ScriptClient
  private readonly queues: Queues
  private readonly clock: Clock
  private readonly log: Logger
  private timer: NodeJS.Timeout | undefined
  private dueAtMs = Number.POSITIVE_INFINITY
  private running: Promise<void> | undefined
  private leaseUntilMs = 0
  private askAgainAtMs = 0
  private closed = false
  /** Redis' clock minus ours. */
  private offsetMs = 0
  private lookAtAll = true
  /** Lines that are to be looked at, whenever they are due. */
  private readonly unseen = new Set<string>()
  private first: FirstLines = () => false
  private lookAgain: NodeJS.Timeout | undefined
  private again = false
  private readonly retries = new Set<NodeJS.Timeout>()

  constructor(parts: { redis: Redis; scriptClient: ScriptClient; queues: Queues; clock: Clock; log: Logger }) {
    this.redis = parts.redis
    this.scriptClient = parts.scriptClient
    this.queues = parts.queues
    this.clock = parts.clock
    this.log = parts.log
  }

  start(): void {
    this.schedule(0)
  }

  /** Something may have room now. */
  wake(): void {
    this.again = true
    this.schedule(0)
  }

  /**
   * The rules changed: every line may move. A process that has not heard of it may put a call into
   * a line by the old ones, where it would wait by these: all are looked at once more.
   * @param first which to look at before the others
   */
  wakeAll(first: FirstLines = () => false): void {
    this.first = first
    this.wakeEveryLine()
    clearTimeout(this.lookAgain)
    if (this.closed) return
    this.lookAgain = setTimeout(() => this.wakeEveryLine(), DEFAULTS.lookAgainMs)
    this.lookAgain.unref()
  }

  /** Wakes nobody any more; what is under way is not waited for. */
  stop(): void {
    this.closed = true
    clearTimeout(this.timer)
    clearTimeout(this.lookAgain)
    for (const retry of this.retries) clearTimeout(retry)
  }

  /** Stops, and lets another drain at once. */
  async close(): Promise<void> {
    this.stop()
    await this.running
    // One that Redis does not take ends by itself.
    if (this.leaseUntilMs > 0) await scripts.lease.run(this.redis, [this.scriptClient.keys.dispatcher], [this.id, 0]).catch(() => {})
  }

  private wakeEveryLine(): void {
    this.lookAtAll = true
    this.wake()
  }

  private schedule(inMs: number): void {
    if (this.closed) return
    const atMs = performance.now() + inMs
    if (this.running !== undefined || (this.timer !== undefined && atMs >= this.dueAtMs)) return
    clearTimeout(this.timer)
    this.dueAtMs = atMs
    this.timer = setTimeout(() => {
      this.timer = undefined
      this.running = this.turn().then(
        (nextMs) => this.rest(nextMs),
        (error: unknown) => {
          this.log.error({ err: error }, 'draining failed')
          this.lookAtAll = true
          this.rest(IDLE_MS)
        },
      )
    }, inMs)
  }

  private rest(nextMs: number): void {
    this.running = undefined
    const soon = this.again
    this.again = false
    this.schedule(soon ? DEFAULTS.dispatchIntervalMs : Math.max(DEFAULTS.dispatchIntervalMs, nextMs))
  }

  /** One look at what is due. Returns in how many ms there is something to do again. */
  private async turn(): Promise<number> {
    if (!(await this.mayDrain())) return ELECTION_MS
    this.again = false
    const { lines, passes, late } = await this.due()
    if (late.length > 0) await this.expire(late)
    if (passes.length > 0) await this.reconcilePasses(passes)
    if (lines.length === 0) return this.idleFor()
    const perLine = Math.max(FEWEST_PER_LINE, Math.floor(CALLS_AT_ONCE / lines.length))
    const { nowMs, woken, nextMs } = await this.scriptClient.dispatch(await readLineFronts(this.redis, this.scriptClient, lines, perLine))
    if (this.clock.forScripts() === '') this.offsetMs = nowMs - Date.now()
    await this.promote(woken, 0)
    return this.unseen.size > 0 ? 0 : Math.min(IDLE_MS, nextMs ?? IDLE_MS)
  }

  private async mayDrain(): Promise<boolean> {
    const nowMs = performance.now()
    if (this.leaseUntilMs - nowMs > (DEFAULTS.dispatcherLeaseMs * 2) / 3) return true
    // Whoever was told no does not ask again at every wake.
    if (this.leaseUntilMs === 0 && nowMs < this.askAgainAtMs) return false
    this.askAgainAtMs = nowMs + ELECTION_MS
    const won = await scripts.lease.run(this.redis, [this.scriptClient.keys.dispatcher], [this.id, DEFAULTS.dispatcherLeaseMs])
    if (won === 1 && this.leaseUntilMs === 0) {
      const [seconds, micros] = await this.redis.time()
      this.offsetMs = Number(seconds) * 1000 + Number(micros) / 1000 - Date.now()
      this.lookAtAll = true
    }
    this.leaseUntilMs = won === 1 ? nowMs + DEFAULTS.dispatcherLeaseMs : 0
    return won === 1
  }

  private nowMs(): number {
    const given = this.clock.forScripts()
    return given === '' ? Date.now() + this.offsetMs : Number(given)
  }

  private async due(): Promise<{ lines: string[]; passes: string[]; late: string[] }> {
    const now = this.nowMs()
    const all = this.lookAtAll
    this.lookAtAll = false
    const [due, passes, late, others] = await Promise.all([
      this.redis.zrange(this.scriptClient.keys.lines, '-inf', String(now + 1), 'BYSCORE', 'LIMIT', 0, LINES_AT_ONCE),
      this.redis.zrange(this.scriptClient.keys.passes, '-inf', String(now), 'BYSCORE', 'LIMIT', 0, PASSES_AT_ONCE),
      this.redis.zrange(this.scriptClient.keys.deadlines, '-inf', String(now), 'BYSCORE', 'LIMIT', 0, PASSES_AT_ONCE),
      all ? this.redis.zrange(this.scriptClient.keys.lines, '0', '-1') : [],
    ])
    for (const line of others) this.unseen.add(line)
    for (const line of due) this.unseen.delete(line)
    const first = others.filter((line) => this.unseen.has(line) && this.isFirst(line))
    // Half of them, should so many be due that they would take all turns.
    const unseen = (first.length > 0 ? first : [...this.unseen]).slice(0, Math.max(LINES_AT_ONCE - due.length, LINES_AT_ONCE / 2))
    for (const line of unseen) this.unseen.delete(line)
    return { lines: [...due, ...unseen], passes, late }
  }

  /** Takes calls out of their lines whose deadlines have passed; their workers find that it is too late. */
  private async expire(ids: readonly string[]): Promise<void> {
    const records = await this.redis.mget(ids.map((id) => this.scriptClient.keys.call(id)))
    const waiting = ids.map((id, index) => {
      const record = records[index] ?? null
      return { request: restoredRequest(this.scriptClient, id, record), line: readRecord(record)?.line ?? '' }
    })
    await this.promote(await this.scriptClient.expire(waiting), 0)
  }

  private isFirst(line: string): boolean {
    const at = this.scriptClient.keys.parseLine(line)
    return at !== null && this.first(at.rule, at.value)
  }

  /** Ms until the first line is due, at most until the next look at the passes. */
  private async idleFor(): Promise<number> {
    const [, score] = await this.redis.zrange(this.scriptClient.keys.lines, '0', '0', 'WITHSCORES')
    return score === undefined ? IDLE_MS : Math.min(IDLE_MS, Math.max(0, Number(score) - this.nowMs()))
  }

  private async promote(ids: readonly string[], tries: number): Promise<void> {
    const promoted = await Promise.all(ids.map((id) => this.queues.promote(id)))
    const missed = ids.filter((_, index) => promoted[index] === false)
    const afterMs = PROMOTE_AGAIN_MS[tries]
    if (missed.length === 0 || afterMs === undefined || this.closed) return
    // Its enqueuer has not added the job yet, or its worker is still putting it back.
    const retry = setTimeout(() => {
      this.retries.delete(retry)
      this.promote(missed, tries + 1).catch((error: unknown) => this.log.error({ err: error }, 'waking failed; the calls are found among the passes'))
    }, afterMs)
    this.retries.add(retry)
  }

  private async reconcilePasses(ids: readonly string[]): Promise<void> {
    const records = await this.redis.mget(ids.map((id) => this.scriptClient.keys.call(id)))
    const seen = await this.queues.look(ids)
    const delayed = ids.filter((_, index) => seen[index] === 'delayed')
    if (delayed.length > 0) await this.promote(delayed, PROMOTE_AGAIN_MS.length)
    const verdicts = await this.scriptClient.reconcilePasses(
      ids.map((id, index) => {
        const one = seen[index] ?? 'missing'
        return { request: restoredRequest(this.scriptClient, id, records[index] ?? null), seen: one === 'delayed' ? 'queued' : one }
      }),
    )
    for (const [index, verdict] of verdicts.entries()) {
      if (verdict === 'dropped') this.log.warn({ call: ids[index] }, 'a call was woken whose job does not exist; its room went back')
      if (verdict === 'unclaimed') this.log.warn({ call: ids[index] }, 'a woken call is held by a worker that does not start it; its room went back')
    }
  }
}

/** Who stands first in each of these lines, resolved under the rules in force now. */
export async function readLineFronts(redis: Redis, scriptClient: ScriptClient, lines: readonly string[], perLine: number): Promise<LineFront[]> {
  const fronts = await Promise.all(lines.map((line) => redis.zrange(line, '0', String(perLine - 1))))
  const ids = fronts.flat()
  const records = ids.length === 0 ? [] : await redis.mget(ids.map((id) => scriptClient.keys.call(id)))
  let at = 0
  return lines.map((key, index) => ({
    key,
    calls: (fronts[index] ?? []).map((id) => restoredRequest(scriptClient, id, records[at++] ?? null)),
  }))
}
