import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { costIn } from '../admission/request.js'
import { type CountedLine, linePoints } from '../history/line-points.js'
import type { Recorder } from '../history/recorder.js'
import { type LineSeen, limitKey, readSeen, type Seen, tenantOf } from '../history/seen.js'
import { type Clock, DAY, SECOND } from '../model/time.js'
import { repliesTo, storeNowMs } from '../redis/replies.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { explainStored } from './explain.js'
import type { QueueStates } from './queue-states.js'
import { parseRecordId, readRecord, restoredRequest } from './stored-call.js'

/** How often the dispatcher looks at the lines, and how many it counts in one look: the others have their turn in the next ones. */
export const LOOK_MS = 2 * SECOND
const COUNTED_AT_ONCE = 2000
/** Of so many lines, the deepest, the first call is explained; of so many of these, who waits is known from a sample of so many calls. */
const EXPLAINED = 40
const SAMPLED_LINES = 8
const SAMPLE = 50
const WHO_AT_MOST = 8
/** A look that is older tells nothing of the time since. */
const LONGEST_GAP_MS = 5 * LOOK_MS
const KEPT_MS = DAY

interface KnownLine {
  depth: number
  sinceMs: number
  /** What its first call was seen to wait for last, and since when its first calls do. */
  limit: string | undefined
  limitSinceMs: number | undefined
}

interface FoundLine extends CountedLine {
  readonly key: string
  readonly sinceMs: number
}

/**
 * What the dispatcher sees of the lines every two seconds: their depths, what their first calls wait for, and who waits. It goes to the history, as
 * integrals of depth over time, and to one key, for the verdict.
 *
 * The cost is bounded, whatever waits: 2,000 lines are counted, 40 first calls explained, 400 calls sampled. Depths of lines beyond stand for until
 * they have their turn. If the process dies, the next dispatcher goes on from the key; the time between them is not counted.
 */
export class LineLook {
  private readonly known = new Map<string, KnownLine>()
  private limits = new Map<string, number>()
  private woken = new Map<string, number>()
  private lastMs: number | undefined
  private from = 0
  private looking: Promise<void> | undefined

  constructor(
    private readonly parts: {
      readonly redis: Redis
      readonly scriptClient: ScriptClient
      readonly queueStates: QueueStates
      readonly recorder: Recorder
      readonly clock: Clock
      readonly log: Logger
    },
  ) {}

  /** Looks once; never throws. */
  look(): Promise<void> {
    this.looking ??= this.run()
      .catch((error: unknown) => this.parts.log.debug({ err: error }, 'the lines could not be looked at'))
      .finally(() => {
        this.looking = undefined
      })
    return this.looking
  }

  /** Another process dispatched meanwhile: what is known is old. */
  forget(): void {
    this.lastMs = undefined
    this.known.clear()
  }

  /** Calls of a line were woken. */
  woke(line: string, calls: number): void {
    this.woken.set(line, (this.woken.get(line) ?? 0) + calls)
  }

  private async run(): Promise<void> {
    const { redis, scriptClient } = this.parts
    const { keys } = scriptClient
    const [nowMs, last] = await Promise.all([
      storeNowMs(this.parts.redis, this.parts.clock),
      this.lastMs === undefined ? redis.get(keys.seen).then(readSeen) : null,
    ])
    if (last !== null) this.goOnFrom(last, nowMs)
    const beforeMs = this.lastMs
    const gapMs = beforeMs === undefined || nowMs - beforeMs > LONGEST_GAP_MS ? 0 : Math.max(0, nowMs - beforeMs)
    const lineCount = await this.count(nowMs, beforeMs ?? nowMs)
    const found = [...this.known].flatMap(([key, one]): FoundLine[] => {
      const at = keys.parseLine(key)
      return at === null ? [] : [{ key, ...at, ...one, woken: this.woken.get(key) ?? 0 }]
    })
    const deepest = [...found].sort((one, other) => other.depth - one.depth).slice(0, EXPLAINED)
    const lines = await this.explain(deepest, nowMs, beforeMs)
    const limits = this.sumLimits(found)
    const counted = found.map((line) => ({ ...line, limit: this.known.get(line.key)?.limit }))
    this.parts.recorder.saw(linePoints(counted, lines, gapMs))
    this.woken = new Map()
    this.lastMs = nowMs
    const waiting = found.reduce((sum, { depth }) => sum + depth, 0)
    const seen: Seen = { atMs: Math.floor(nowMs), waiting, lineCount, lines, limits: Object.fromEntries(limits) }
    await redis.set(keys.seen, JSON.stringify(seen), 'PX', KEPT_MS)
  }

  private goOnFrom(last: Seen, nowMs: number): void {
    if (nowMs - last.atMs > LONGEST_GAP_MS || nowMs < last.atMs) return
    this.lastMs = last.atMs
    for (const { rule, scopeValue, depth, sinceMs, limit, limitSinceMs = sinceMs } of last.lines)
      this.known.set(this.parts.scriptClient.keys.line(rule, scopeValue), { depth, sinceMs, limit: limit ?? undefined, limitSinceMs })
    this.limits = new Map(Object.entries(last.limits).map(([key, { sinceMs }]) => [key, sinceMs]))
  }

  /** Counts the lines, or those whose turn it is. @returns how many there are */
  private async count(nowMs: number, beforeMs: number): Promise<number> {
    const { redis, scriptClient } = this.parts
    const [names, all] = await Promise.all([
      redis.zrange(scriptClient.keys.lines, String(this.from), String(this.from + COUNTED_AT_ONCE - 1)),
      redis.zcard(scriptClient.keys.lines),
    ])
    const isAll = this.from === 0 && names.length === all
    this.from = isAll || this.from + names.length >= all ? 0 : this.from + names.length
    if (isAll) {
      const there = new Set(names)
      for (const key of this.known.keys()) if (!there.has(key)) this.known.delete(key)
    }
    // Lines that are gone have been met by their turn at the latest.
    const asked = isAll ? names : [...new Set([...names, ...this.known.keys()])].slice(0, 2 * COUNTED_AT_ONCE)
    const pipeline = redis.pipeline()
    for (const name of asked) pipeline.zcard(name)
    const depths = asked.length === 0 ? [] : await repliesTo(pipeline)
    for (const [index, name] of asked.entries()) {
      const depth = depths[index] as number
      const known = this.known.get(name)
      if (depth === 0) this.known.delete(name)
      else if (known === undefined) this.known.set(name, { depth, sinceMs: Math.max(beforeMs, nowMs - LOOK_MS), limit: undefined, limitSinceMs: undefined })
      else known.depth = depth
    }
    return all
  }

  private async explain(deepest: readonly FoundLine[], nowMs: number, beforeMs: number | undefined): Promise<LineSeen[]> {
    if (deepest.length === 0) return []
    const { redis, scriptClient, queueStates } = this.parts
    const pipeline = redis.pipeline()
    for (const { key } of deepest) pipeline.zrange(key, '0', '0')
    const heads = (await repliesTo(pipeline)).map((reply) => (reply as string[])[0])
    const present = deepest.flatMap((line, n) => (heads[n] === undefined ? [] : [{ line, head: heads[n] }]))
    if (present.length === 0) return []
    const records = await scriptClient.recordsOf(present.map(({ head }) => head))
    const withRecord = present.flatMap((one, n) => {
      const record = records[n]
      return record === null || record === undefined || readRecord(record)?.call == null ? [] : [{ ...one, record }]
    })
    const entries = withRecord.map(({ head, record }) => ({ id: head, record }))
    const [explained, came, who] = await Promise.all([
      explainStored({ scriptClient, redis, queueStates }, entries),
      this.cameMs(entries.map(({ id }) => id)),
      this.who(withRecord.map(({ line }) => line)),
    ])
    return withRecord.map(({ line, head, record }, n): LineSeen => {
      const { binding, waitsFor, usage, etaMs } = explained[n] as (typeof explained)[number]
      const { queue, jobId } = parseRecordId(head)
      const known = this.known.get(line.key)
      // A first call that has room at this moment is about to be woken: the line still stands before what it was seen to wait for last.
      const limit = binding?.limit ?? (line.rule.startsWith('~') ? (waitsFor ?? 'unknown').toLowerCase() : (known?.limit ?? null))
      if (known !== undefined && limit !== null && limit !== known.limit) {
        if (known.limit !== undefined) known.limitSinceMs = beforeMs ?? nowMs
        known.limit = limit
      }
      const arrivedMs = came[n] ?? null
      // It may have come since the last look.
      if (known !== undefined && arrivedMs !== null && known.sinceMs > arrivedMs && known.sinceMs >= nowMs - LOOK_MS)
        known.sinceMs = Math.max(arrivedMs, beforeMs ?? arrivedMs)
      const bound = usage.find((one) => one.rule === binding?.rule && one.limit === binding.limit)
      const request = restoredRequest(scriptClient, head, record)
      return {
        rule: line.rule,
        scopeValue: line.value,
        limit,
        depth: line.depth,
        oldestMs: arrivedMs === null ? null : Math.max(0, nowMs - arrivedMs),
        sinceMs: Math.floor(known?.sinceMs ?? line.sinceMs),
        limitSinceMs: Math.floor(known?.limitSinceMs ?? known?.sinceMs ?? line.sinceMs),
        who: who.get(line.key) ?? [],
        kind: binding?.kind ?? null,
        waitsFor,
        head: jobId,
        queue,
        agent: request.call.agent,
        etaMs,
        binds:
          bound === undefined
            ? null
            : { unit: bound.unit, needs: costIn(request.costs, bound.unit), capacity: bound.capacity, remaining: bound.remaining, windowMs: bound.windowMs },
      }
    })
  }

  /** When the calls came, by the clocks of their producers. */
  private async cameMs(ids: readonly string[]): Promise<(number | null)[]> {
    const pipeline = this.parts.redis.pipeline()
    for (const id of ids) pipeline.hget(this.parts.scriptClient.keys.job(id), 'timestamp')
    return (await repliesTo(pipeline)).map((text) => (text === null ? null : Number(text)))
  }

  /** Who waits in each line, by its key: where the line may have calls of several tenants, by a sample. */
  private async who(lines: readonly FoundLine[]): Promise<Map<string, LineSeen['who']>> {
    const { redis, scriptClient } = this.parts
    const { specs } = scriptClient.resolver.rules
    const who = new Map<string, LineSeen['who']>()
    const mixed: FoundLine[] = []
    for (const line of lines) {
      const tenant = tenantOf(specs, line.rule, line.value)
      if (tenant !== undefined) who.set(line.key, [{ org: tenant, calls: line.depth }])
      else if (mixed.length < SAMPLED_LINES) mixed.push(line)
    }
    if (mixed.length === 0) return who
    const pipeline = redis.pipeline()
    for (const { key } of mixed) pipeline.zrandmember(key, SAMPLE)
    const samples = (await repliesTo(pipeline)) as string[][]
    const records = await scriptClient.recordsOf(samples.flat())
    let next = 0
    for (const [n, { key, depth }] of mixed.entries()) {
      const counts = new Map<string, number>()
      const sample = samples[n] ?? []
      for (const _ of sample) {
        const call = readRecord(records[next++] ?? null)?.call
        const name = call?.org ?? call?.team ?? call?.user ?? '–'
        counts.set(name, (counts.get(name) ?? 0) + 1)
      }
      const ranked = [...counts].sort(([, one], [, other]) => other - one).slice(0, WHO_AT_MOST)
      who.set(
        key,
        ranked.map(([org, count]) => ({ org, calls: Math.round((count * depth) / Math.max(1, sample.length)) })),
      )
    }
    return who
  }

  /** How many calls wait for each limit, and since when without a break. */
  private sumLimits(found: readonly FoundLine[]): Map<string, { sinceMs: number; calls: number }> {
    const limits = new Map<string, { sinceMs: number; calls: number }>()
    for (const { rule, key, depth } of found) {
      const { limit, sinceMs } = this.known.get(key) ?? {}
      if (limit === undefined || sinceMs === undefined) continue
      const name = limitKey(rule, limit)
      const known = limits.get(name)
      limits.set(name, {
        sinceMs: Math.floor(Math.min(this.limits.get(name) ?? sinceMs, known?.sinceMs ?? sinceMs)),
        calls: (known?.calls ?? 0) + depth,
      })
    }
    this.limits = new Map([...limits].map(([name, { sinceMs }]) => [name, sinceMs]))
    return limits
  }
}
