import { addNumber, escaped, NUMBER, type Numbers, WAITING_MS } from './point.js'
import type { LineSeen } from './seen.js'
import { type HistoryBatch, SERIES, type SeriesEntry, TOP, TOP_SIZE, type TopEntry } from './series.js'

/** A line, counted. */
export interface CountedLine {
  readonly rule: string
  readonly value: string
  readonly depth: number
  readonly limit: string | undefined
  /** How many of its calls were woken since the look before. */
  readonly woken: number
}

/**
 * What one look of the dispatcher adds to the history.
 * @param found all lines @param lines the deepest, explained @param gapMs since the look before; 0 where that is too long ago to tell of the time since
 */
export function linePoints(found: readonly CountedLine[], lines: readonly LineSeen[], gapMs: number): HistoryBatch {
  const series = new Map<string, Numbers>()
  const numbersOf = (name: string) => {
    const numbers = series.get(name) ?? new Map<string, number>()
    series.set(name, numbers)
    return numbers
  }
  const looked = (name: string, depth: number, of: readonly LineSeen[]) => {
    const numbers = numbersOf(name)
    if (gapMs > 0 && depth > 0) addNumber(numbers, NUMBER.waiting, waitingOf(depth, gapMs))
    if (depth > 0) addNumber(numbers, NUMBER.deepest, depth)
    for (const { oldestMs } of of) if (oldestMs !== null) addNumber(numbers, NUMBER.oldestMs, Math.floor(oldestMs))
    return numbers
  }
  // For how long the depth is known is the same for all.
  const all = looked(SERIES.namespace, depthOf(found), lines)
  if (gapMs > 0) addNumber(all, NUMBER.seenMs, Math.round(gapMs))
  const byHour: SeriesEntry[] = []
  const explained = groupedBy(lines, ({ rule }) => rule)
  for (const [rule, ofRule] of groupedBy(found, ({ rule }) => rule)) {
    const numbers = looked(SERIES.rule(rule), depthOf(ofRule), explained.get(rule) ?? [])
    if (gapMs === 0) continue
    for (const { limit, depth } of ofRule) if (limit !== undefined) addNumber(numbers, NUMBER.waitingOf + escaped(limit), waitingOf(depth, gapMs))
    const by: Numbers = new Map()
    for (const { who } of explained.get(rule) ?? []) for (const { org, calls } of who) addNumber(by, NUMBER.waitingBy + escaped(org), waitingOf(calls, gapMs))
    if (by.size > 0) byHour.push({ name: SERIES.rule(rule), resolutions: ['h'], numbers: by })
  }
  for (const [agent, ofAgent] of groupedBy(lines, (line) => line.agent)) looked(SERIES.agent(agent), depthOf(ofAgent), ofAgent)
  const tops: TopEntry[] = []
  for (const [rule, ofRule] of explained) {
    // Lines of one call.
    if (rule === '~returned') continue
    const counts = new Map<string, number>()
    for (const line of ofRule.slice(0, TOP_SIZE.line)) {
      const name = `${rule}/${line.scopeValue}`
      const numbers = looked(SERIES.line(name), line.depth, [line])
      const woken = found.find((one) => one.rule === rule && one.value === line.scopeValue)?.woken ?? 0
      if (woken > 0) addNumber(numbers, NUMBER.started, woken)
      counts.set(name, line.depth)
    }
    tops.push({ list: TOP.lines(rule), size: TOP_SIZE.line, counts, seriesOf: SERIES.line })
  }
  return { series: [...[...series].map(([name, numbers]) => ({ name, resolutions: ['m', 'h'] as const, numbers })), ...byHour], tops }
}

export function groupedBy<One>(all: readonly One[], keyOf: (one: One) => string): Map<string, One[]> {
  const groups = new Map<string, One[]>()
  for (const one of all) {
    const key = keyOf(one)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [one])
    else group.push(one)
  }
  return groups
}

/** In `WAITING_MS`. */
function waitingOf(depth: number, gapMs: number): number {
  return Math.round((depth * gapMs) / WAITING_MS)
}

function depthOf(lines: readonly { readonly depth: number }[]): number {
  return lines.reduce((sum, { depth }) => sum + depth, 0)
}
