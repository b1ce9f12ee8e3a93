import type { Resolution } from '../store/redis/protocol.js'
import type { Numbers, SeriesPoint } from './point.js'

/** The names of series. */
export const SERIES = {
  namespace: 'all',
  rule: (name: string) => `r/${name}`,
  agent: (name: string) => `a/${name}`,
  line: (name: string) => `l/${name}`,
  spend: (by: string, name: string) => `s/${by}/${name}`,
} as const

/** The lists of names that have a series, and of those that break rules most; each with its size. */
export const TOP_SIZE = { agents: 200, line: 2, spend: 200, violations: 100 } as const
export const TOP = {
  agents: 'agents',
  lines: (rule: string) => `l/${rule}`,
  spend: (by: string) => `s/${by}`,
  violations: (by: string) => `v/${by}`,
} as const

/** Numbers to be added to a series. */
export interface SeriesEntry {
  readonly name: string
  readonly resolutions: readonly Resolution[]
  readonly numbers: Numbers
}

/** Counts to be added to a top list. */
export interface TopEntry {
  readonly list: string
  readonly size: number
  readonly counts: ReadonlyMap<string, number>
  /** The series of a name: it goes with the name where that leaves the list. */
  readonly seriesOf?: (name: string) => string
}

export interface HistoryBatch {
  readonly series: readonly SeriesEntry[]
  readonly tops: readonly TopEntry[]
}

export interface Ranked {
  readonly name: string
  readonly count: number
  /** How much of the count may be that of names before it. */
  readonly atMost: number
}

/** Where the history is kept: in Redis, or in the memory of one process. */
export interface SeriesStore {
  add(batch: HistoryBatch): Promise<void>
  /** The points of a series that are not before a slot, in order, without those where nothing was counted. */
  points(names: readonly string[], resolution: Resolution, fromSlot: number, toSlot: number): Promise<SeriesPoint[][]>
  /** The point since a time of each series; undefined where there is none. */
  totals(names: readonly string[]): Promise<(SeriesPoint | undefined)[]>
  /** Forgets these. */
  resetTotals(names: readonly string[]): Promise<void>
  top(list: string, most: number): Promise<Ranked[]>
  forgetTops(lists: readonly string[]): Promise<void>
  nowMs(): Promise<number>
}
