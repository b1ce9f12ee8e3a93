import { approximateMs, type Clock } from '../model/time.js'
import { RESOLUTION, type Resolution } from '../store/redis/protocol.js'
import { addAll, type Numbers, type SeriesPoint } from './point.js'
import type { HistoryBatch, Ranked, SeriesStore } from './series.js'

interface KeptTop {
  readonly count: number
  readonly atMost: number
}

/** The history of a process without a Redis. It means the same as `lua/add-history.lua`, and is bounded in the same way. */
export class MemorySeries implements SeriesStore {
  private readonly series = new Map<string, Map<Resolution, Map<number, Numbers>>>()
  private readonly tops = new Map<string, Map<string, KeptTop>>()

  constructor(private readonly clock: Clock) {}

  async add({ series, tops }: HistoryBatch): Promise<void> {
    const nowMs = approximateMs(this.clock)
    for (const { name, resolutions, numbers } of series) for (const one of resolutions) this.addPoint(name, one, numbers, nowMs)
    for (const { list, size, counts, seriesOf } of tops) {
      const top = this.tops.get(list) ?? new Map<string, KeptTop>()
      this.tops.set(list, top)
      for (const [name, count] of counts) {
        const known = top.get(name)
        let least = 0
        if (known === undefined && top.size >= size) {
          const [last, kept] = [...top].reduce((lowest, one) => (one[1].count < lowest[1].count ? one : lowest))
          top.delete(last)
          least = kept.count
          if (seriesOf !== undefined) this.series.delete(seriesOf(last))
        }
        top.set(name, { count: (known?.count ?? least) + count, atMost: known?.atMost ?? least })
      }
    }
  }

  private addPoint(name: string, resolution: Resolution, numbers: Numbers, nowMs: number): void {
    const [ms, perChunk, chunks] = RESOLUTION[resolution]
    const of = this.series.get(name) ?? new Map<Resolution, Map<number, Numbers>>()
    this.series.set(name, of)
    const points = of.get(resolution) ?? new Map<number, Numbers>()
    of.set(resolution, points)
    const [only] = points.keys()
    const slot = ms === 0 ? (only ?? Math.floor(nowMs)) : Math.floor(nowMs / ms)
    const point: Numbers = points.get(slot) ?? new Map()
    points.set(slot, point)
    addAll(point, numbers)
    for (const old of points.keys()) if (ms > 0 && old <= slot - perChunk * chunks) points.delete(old)
  }

  async points(names: readonly string[], resolution: Resolution, fromSlot: number, toSlot: number): Promise<SeriesPoint[][]> {
    return names.map((name) =>
      [...(this.series.get(name)?.get(resolution) ?? [])]
        .filter(([slot]) => slot >= fromSlot && slot <= toSlot)
        .map(([slot, numbers]) => ({ slot, numbers }))
        .sort((one, other) => one.slot - other.slot),
    )
  }

  async totals(names: readonly string[]): Promise<(SeriesPoint | undefined)[]> {
    return names.map((name) => {
      const [total] = this.series.get(name)?.get('t') ?? []
      return total === undefined ? undefined : { slot: total[0], numbers: total[1] }
    })
  }

  async resetTotals(names: readonly string[]): Promise<void> {
    for (const name of names) this.series.get(name)?.delete('t')
  }

  async top(list: string, most: number): Promise<Ranked[]> {
    return [...(this.tops.get(list) ?? [])]
      .map(([name, kept]) => ({ name, ...kept }))
      .sort((one, other) => other.count - one.count)
      .slice(0, most)
  }

  async forgetTops(lists: readonly string[]): Promise<void> {
    for (const list of lists) this.tops.delete(list)
  }

  async nowMs(): Promise<number> {
    return approximateMs(this.clock)
  }
}
