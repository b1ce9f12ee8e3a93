import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { type Clock, DAY } from '../model/time.js'
import type { Keys } from '../redis/keys.js'
import { repliesTo, storeNowMs } from '../redis/replies.js'
import { RESOLUTION, type Resolution } from '../store/redis/protocol.js'
import { scripts } from '../store/redis/scripts.js'
import { readPoint, type SeriesPoint, writeNumbers } from './point.js'
import type { HistoryBatch, Ranked, SeriesStore } from './series.js'

/** For how long a top list is kept after its last name. */
const TOP_STAYS_MS = 95 * DAY

/** The history in Redis: `lua/add-history.lua` has its form. */
export class RedisSeries implements SeriesStore {
  private readonly id = randomUUID()
  private sent = 0

  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
    private readonly clock: Clock,
  ) {}

  async add({ series, tops }: HistoryBatch): Promise<void> {
    if (series.length === 0 && tops.length === 0) return
    const names: string[] = [this.keys.historySender(this.id)]
    const placeOf = (key: string) => names.push(key)
    const batch = {
      series: series.map(({ name, resolutions, numbers }) => [placeOf(this.keys.series(name)), resolutions.join(''), writeNumbers(numbers)]),
      tops: tops.map(({ list, size, counts, seriesOf }) => {
        const hash = seriesOf === undefined ? placeOf(this.keys.topErrors(list)) : 0
        return [placeOf(this.keys.top(list)), hash, size, TOP_STAYS_MS, ...[...counts].flat()]
      }),
    }
    const evicted = await scripts.addHistory.run(this.redis, names, [this.clock.forScripts(), ++this.sent, JSON.stringify(batch)])
    const gone: string[] = []
    for (let n = 0; n + 1 < evicted.length; n += 2) {
      const seriesOf = tops[Number(evicted[n]) - 1]?.seriesOf
      if (seriesOf !== undefined) gone.push(this.keys.series(seriesOf(String(evicted[n + 1]))))
    }
    // If the process dies before this, they end by themselves.
    if (gone.length > 0) await this.redis.unlink(...gone)
  }

  async points(names: readonly string[], resolution: Resolution, fromSlot: number, toSlot: number): Promise<SeriesPoint[][]> {
    if (names.length === 0) return []
    const [, perChunk, chunks] = RESOLUTION[resolution]
    const first = Math.floor(fromSlot / perChunk)
    const last = Math.min(Math.floor(toSlot / perChunk), first + chunks)
    const fields: string[] = [resolution]
    for (let chunk = first; chunk <= last; chunk++) fields.push(`${resolution}${chunk % chunks}`)
    const pipeline = this.redis.pipeline()
    for (const name of names) pipeline.hmget(this.keys.series(name), ...new Set(fields))
    const replies = (await repliesTo(pipeline)) as (string | null)[][]
    return replies.map(([open, ...kept]) => {
      // Each begins with the number of its chunk, which is no point: the ring may still have an old one.
      const texts = [...kept.flatMap((text) => (text ?? '').split(';').slice(1)), open ?? '']
      const points = new Map<number, SeriesPoint>()
      for (const text of texts) {
        const point = readPoint(text)
        if (point !== undefined && point.slot >= fromSlot && point.slot <= toSlot) points.set(point.slot, point)
      }
      return [...points.values()].sort((one, other) => one.slot - other.slot)
    })
  }

  async totals(names: readonly string[]): Promise<(SeriesPoint | undefined)[]> {
    const pipeline = this.redis.pipeline()
    for (const name of names) pipeline.hget(this.keys.series(name), 't')
    return (await repliesTo(pipeline)).map((text) => (typeof text === 'string' ? readPoint(text) : undefined))
  }

  async resetTotals(names: readonly string[]): Promise<void> {
    const pipeline = this.redis.pipeline()
    for (const name of names) pipeline.hdel(this.keys.series(name), 't')
    await repliesTo(pipeline)
  }

  async top(list: string, most: number): Promise<Ranked[]> {
    const flat = await this.redis.zrevrange(this.keys.top(list), 0, most - 1, 'WITHSCORES')
    const names = flat.filter((_, index) => index % 2 === 0)
    const errors = names.length === 0 ? [] : await this.redis.hmget(this.keys.topErrors(list), ...names)
    return names.map((name, index) => ({ name, count: Number(flat[2 * index + 1]), atMost: Number(errors[index] ?? 0) }))
  }

  async forgetTops(lists: readonly string[]): Promise<void> {
    await this.redis.unlink(...lists.flatMap((list) => [this.keys.top(list), this.keys.topErrors(list)]))
  }

  async nowMs(): Promise<number> {
    const nowMs = await storeNowMs(this.redis, this.clock)
    return this.clock.forScripts() === '' ? Math.floor(nowMs) : nowMs
  }
}
