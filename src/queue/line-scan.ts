import type { Redis } from 'ioredis'
import type { CallRequest } from '../admission/request.js'
import type { Clock } from '../model/time.js'
import type { FrontLook, LineFront, ScriptClient } from '../store/redis/script-client.js'
import { readRecord, restoredRequest } from './stored-call.js'

/** Lines, calls of them, and passes that one turn of the dispatcher looks at, at most. */
const LINES_AT_ONCE = 32
const CALLS_AT_ONCE = 192
const FEWEST_PER_LINE = 4
const PASSES_AT_ONCE = 100

/** Whether a line, by its rule and scope value, is to be looked at before the others. */
export type FirstLines = (rule: string, value: string) => boolean

/** Reads from Redis what is due: by the time that Redis keeps for it, and line by line after a change that may have moved any line. */
export class LineScan {
  private readAll = true
  /** Lines that a scan of all lines has found, and no turn has looked at yet. */
  private readonly unseen = new Set<string>()
  private isFirst: FirstLines = () => false
  /** How many calls of a line the next turn looks at, where that is more than the fewest. */
  private readonly asks = new Map<string, number>()
  /** Redis' clock minus this process's monotonic clock. */
  private offsetMs = 0

  constructor(
    private readonly redis: Redis,
    private readonly scriptClient: ScriptClient,
    private readonly clock: Clock,
  ) {}

  /** Looks at every line once more, whenever it is due. */
  scanAll(isFirst: FirstLines = this.isFirst): void {
    this.isFirst = isFirst
    this.readAll = true
  }

  /** Whether a scan of all lines is not finished. */
  get unfinished(): boolean {
    return this.unseen.size > 0
  }

  /** @param redisMs what Redis' clock shows now */
  setClock(redisMs: number): void {
    this.offsetMs = redisMs - performance.now()
  }

  /**
   * What one turn of the dispatcher has to do.
   * @returns keys of lines whose first call may have room, ids of woken calls that should have started, and of waiting calls whose deadlines have passed
   */
  async due(): Promise<Record<'lines' | 'passes' | 'late', readonly string[]>> {
    const nowMs = this.nowMs()
    const readAll = this.readAll
    this.readAll = false
    const { keys } = this.scriptClient
    const upTo = (key: string, untilMs: number, atMost: number) => this.redis.zrange(key, '-inf', String(untilMs), 'BYSCORE', 'LIMIT', 0, atMost)
    const [due, passes, late, all] = await Promise.all([
      upTo(keys.lines, nowMs + 1, LINES_AT_ONCE),
      upTo(keys.passes, nowMs, PASSES_AT_ONCE),
      upTo(keys.deadlines, nowMs, PASSES_AT_ONCE),
      readAll ? this.redis.zrange(keys.lines, '0', '-1') : [],
    ])
    for (const line of all) this.unseen.add(line)
    for (const line of due) this.unseen.delete(line)
    const first = all.filter((line) => this.unseen.has(line) && this.comesFirst(line))
    // At least half of a turn goes to unseen lines, however many lines are due.
    const unseen = (first.length > 0 ? first : [...this.unseen]).slice(0, Math.max(LINES_AT_ONCE - due.length, LINES_AT_ONCE / 2))
    for (const line of unseen) this.unseen.delete(line)
    return { lines: [...due, ...unseen], passes, late }
  }

  /** Ms until the first line is due, at most `longestMs`. */
  async nextDueMs(longestMs: number): Promise<number> {
    const [, score] = await this.redis.zrange(this.scriptClient.keys.lines, '0', '0', 'WITHSCORES')
    return score === undefined ? longestMs : Math.min(longestMs, Math.max(0, Number(score) - this.nowMs()))
  }

  /**
   * The first calls of lines: of one that is due alone twice as many as went last time. A look at a call costs as much as to wake it, and few of a busy
   * line go at a time, so that most would be looked at again and again. Of several lines as many as can be: their calls go in the order of their places,
   * and a short look at one would let calls of another overtake those behind it.
   */
  fronts(lines: readonly string[]): Promise<LineFront[]> {
    return readLineFronts(this.redis, this.scriptClient, lines, (line) => this.asked(line, lines.length))
  }

  private asked(line: string, lines: number): number {
    const most = mostPerLine(lines)
    return lines > 1 ? most : Math.min(most, this.asks.get(line) ?? FEWEST_PER_LINE)
  }

  /**
   * Notes what became of the calls of `fronts`. @returns whether the calls behind those of some line may go, too: the next turn looks at more of it
   */
  looked(fronts: readonly LineFront[], looks: readonly FrontLook[]): boolean {
    const most = mostPerLine(fronts.length)
    let more = false
    for (const [n, { key, calls }] of fronts.entries()) {
      const { left, ended } = looks[n] as FrontLook
      const asked = this.asked(key, fronts.length)
      const mayGoOn = !ended && calls.length === asked
      const next = 2 * (mayGoOn ? asked : left)
      const isEmpty = !mayGoOn && left === calls.length
      if (next > FEWEST_PER_LINE && !isEmpty) this.asks.set(key, Math.min(CALLS_AT_ONCE, next))
      else this.asks.delete(key)
      // Calls that were passed over stay: once as many as can be are looked at, the line waits for its time.
      if (!mayGoOn || (left === 0 && asked === most)) continue
      this.unseen.add(key)
      more = true
    }
    return more
  }

  /** The requests of calls under the rules in force now, each with the line it stands in ('' where it stands in none). */
  async requests(ids: readonly string[]): Promise<{ request: CallRequest; line: string }[]> {
    const records = await this.redis.mget(ids.map((id) => this.scriptClient.keys.call(id)))
    return ids.map((id, index) => {
      const record = records[index] ?? null
      return { request: restoredRequest(this.scriptClient, id, record), line: readRecord(record)?.line ?? '' }
    })
  }

  /** About Redis' time. */
  nowMs(): number {
    const given = this.clock.forScripts()
    return given === '' ? performance.now() + this.offsetMs : Number(given)
  }

  private comesFirst(line: string): boolean {
    const at = this.scriptClient.keys.parseLine(line)
    return at !== null && this.isFirst(at.rule, at.value)
  }
}

/** How many calls of each of so many lines one turn looks at, at most. */
function mostPerLine(lines: number): number {
  return Math.max(FEWEST_PER_LINE, Math.floor(CALLS_AT_ONCE / lines))
}

/** The first calls of each line, resolved under the rules in force now. @param count how many of a line */
export async function readLineFronts(
  redis: Redis,
  scriptClient: ScriptClient,
  lines: readonly string[],
  count: (line: string) => number,
): Promise<LineFront[]> {
  const fronts = await Promise.all(lines.map((line) => redis.zrange(line, '0', String(count(line) - 1))))
  const ids = fronts.flat()
  const records = ids.length === 0 ? [] : await redis.mget(ids.map((id) => scriptClient.keys.call(id)))
  let at = 0
  return lines.map((key, index) => ({
    key,
    calls: (fronts[index] ?? []).map((id) => restoredRequest(scriptClient, id, records[at++] ?? null)),
  }))
}
