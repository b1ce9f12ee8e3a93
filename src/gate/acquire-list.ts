import { waitsFor } from '../model/wait-reason.js'
import type { AcquireLines } from './acquire-line.js'
import { type CallsPage, type CheckedCallsQuery, type CheckedLinesQuery, isAskedFor, type LinesPage, namedFields, readCursor, writeCursor } from './waiting.js'

type Lines = ReturnType<AcquireLines<unknown>['list']>
type Line = Lines[number]

function ruleOf(line: string): string {
  return line.slice(0, line.indexOf('/'))
}

function pageOf<One>(all: readonly One[], cursor: string | undefined, limit: number): { page: readonly One[]; cursor: string | null } {
  const from = readCursor(cursor)?.[0] ?? 0
  const page = all.slice(from, from + limit)
  return { page, cursor: from + limit < all.length ? writeCursor([from + limit, '0', '', '']) : null }
}

function etaMs({ waits }: Line): number | null {
  return waits === undefined || waits.roomAtMs === null ? null : Math.max(0, waits.roomAtMs - performance.now())
}

/** Calls without an id are named by the order in which they came. */
export function callsOf(lines: Lines, query: CheckedCallsQuery): CallsPage {
  const waiting = lines
    .filter(({ line }) => (query.rule === undefined || ruleOf(line) === query.rule) && (query.line === undefined || line === query.line))
    .flatMap((line) => line.waiters.map((waiter, position) => ({ line, waiter, position })))
  const matching = waiting.filter(
    ({ line, waiter }) =>
      (query.state ?? 'waiting') === 'waiting' &&
      query.queue === undefined &&
      (query.waitsFor === undefined || query.waitsFor === line.waits?.waitsFor) &&
      isAskedFor(waiter.call, query),
  )
  const { page, cursor } = pageOf(matching.slice(query.from ?? 0), query.cursor, query.limit)
  const calls = page.map(({ line, waiter: { call, place, sinceMs }, position }) => ({
    ...{ id: call.id ?? `acquire-${place}`, queue: null, state: 'waiting' as const, ...namedFields(call) },
    ...{ binding: line.waits?.binding ?? null, position, etaMs: position === 0 ? etaMs(line) : null, etaMaxMs: null, waitedMs: performance.now() - sinceMs },
    ...waitsFor(line.waits?.waitsFor ?? null),
  }))
  return { calls, cursor }
}

export function linesOfProcess(lines: Lines, { rule, names, cursor: from, limit }: CheckedLinesQuery): LinesPage {
  const isNamed = (line: string) => (rule === undefined || ruleOf(line) === rule) && (names === undefined || names.includes(line))
  const asked = lines.filter(({ line, waiters }) => waiters.length > 0 && isNamed(line))
  const { page, cursor } = pageOf(asked, from, limit)
  const listed = page.map((line) => {
    const [head] = line.waiters
    const oldestMs = performance.now() - Math.min(...line.waiters.map(({ sinceMs }) => sinceMs))
    const etas = { headEtaMs: etaMs(line), headEtaMaxMs: null, lastEtaMs: null, lastEtaMaxMs: null }
    const waits = { ...etas, binding: line.waits?.binding ?? null, ...waitsFor(line.waits?.waitsFor ?? null) }
    return { line: line.line, depth: line.waiters.length, oldestMs, head: head?.call.id ?? `acquire-${head?.place}`, ...waits }
  })
  return { lines: listed, cursor }
}
