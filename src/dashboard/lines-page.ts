import type { ListedLine } from '../gate/waiting.js'
import type { LineNow, LinesNow } from '../history/answers.js'
import { SECOND } from '../model/time.js'
import { isLineOf, type Pause } from '../policy/pause.js'
import { type Figures, isSharedByAll, partsOfLine } from './figures.js'
import { CALLS_OF_PAGE, LINES_OF_PAGE, type LineOrder, type LineRow, type LinesBody, type OpenLine } from './model.js'
import type { PageQuery } from './pages.js'

/** The pause that calls in a line wait for the end of. */
function pauseOf(rule: string, scopeValue: string, pauses: readonly Pause[]): Pause | null {
  return pauses.find((one) => isLineOf(one, { rule, scopeValue })) ?? null
}

const nameOf = ({ rule, scopeValue }: LineNow) => `${rule}/${scopeValue}`

/** A row: figures of the last look of the dispatcher, and of the line as it is now. */
async function rowOf(figures: Figures, listed: ListedLine, seen: LineNow | undefined): Promise<LineRow> {
  const tollgate = figures.source
  const { rule, scopeValue } = partsOfLine(listed.line)
  const spec = tollgate.rules.get(rule)
  return {
    line: listed.line,
    rule,
    scopeValue,
    shared: spec === null ? rule.startsWith('~upstream') : isSharedByAll(spec),
    depth: listed.depth,
    oldestMs: listed.oldestMs,
    sinceMs: seen?.sinceMs ?? null,
    limit: listed.binding?.limit ?? seen?.limit ?? null,
    waitsFor: listed.waitsFor,
    todo: listed.todo,
    lastEtaMs: listed.lastEtaMs,
    lastEtaMaxMs: listed.lastEtaMaxMs,
    who: seen?.who ?? [],
    history: await figures.line(listed.line),
    pause: pauseOf(rule, scopeValue, tollgate.paused()),
  }
}

async function openLine(figures: Figures, line: string, { org, place, cursor }: PageQuery<'lines'>): Promise<OpenLine> {
  const of = org === undefined ? { from: place } : { org, cursor }
  const page = await figures.source.calls({ line, limit: CALLS_OF_PAGE, ...of })
  return { line, org: org ?? null, from: place, calls: page.calls, cursor: page.cursor }
}

const infinite = (ms: number | null) => ms ?? Number.POSITIVE_INFINITY

function sorted(rows: readonly LineRow[], order: LineOrder): readonly LineRow[] {
  const by: Record<LineOrder, (one: LineRow, other: LineRow) => number> = {
    longest: (one, other) => other.depth - one.depth,
    oldest: (one, other) => (other.oldestMs ?? 0) - (one.oldestMs ?? 0),
    // One whose end cannot be known is the slowest.
    slowest: (one, other) =>
      infinite(one.lastEtaMs) === infinite(other.lastEtaMs) ? other.depth - one.depth : infinite(other.lastEtaMs) - infinite(one.lastEtaMs),
  }
  return [...rows].sort(by[order])
}

/**
 * The lines, the longest first. The dispatcher ranks the 50 longest in its last look, so a page reads these alone, whatever their number; those beyond are
 * listed in no order, by a cursor.
 */
export async function linesBody(figures: Figures, query: PageQuery<'lines'>): Promise<LinesBody> {
  const tollgate = figures.source
  const { order, from, rest, line } = query
  const looked: LinesNow | null = await figures.linesNow()
  const ranked = [...(looked?.lines ?? [])].sort((one, other) => (order === 'oldest' ? (other.oldestMs ?? 0) - (one.oldestMs ?? 0) : other.depth - one.depth))
  const seen = new Map(ranked.map((one) => [nameOf(one), one]))
  // When the last call of a line starts is asked for the lines of this page alone, and for all of them where that is their order.
  const names = order === 'slowest' ? [...seen.keys()] : [...seen.keys()].slice(from, from + LINES_OF_PAGE)
  const isRanked = looked !== null && rest === undefined
  const listedPage = isRanked
    ? await figures.remember(`lines ${order} ${from}`, order === 'slowest' ? 2 * SECOND : SECOND / 2, () => tollgate.lines({ names }))
    : await tollgate.lines({ limit: LINES_OF_PAGE, cursor: rest === 'begin' ? undefined : rest })
  const listed = [...listedPage.lines]
  if (line !== undefined && !listed.some((one) => one.line === line)) listed.unshift(...(await tollgate.lines({ names: [line] })).lines)
  const rows = sorted(await Promise.all(listed.map((one) => rowOf(figures, one, seen.get(one.line)))), order)
  const opened = rows.find((row) => row.line === line)
  const shown = isRanked && order === 'slowest' ? rows.slice(from, from + LINES_OF_PAGE) : rows
  const withOpened = opened === undefined || shown.includes(opened) ? shown : [opened, ...shown]
  const lineCount = Math.max(looked?.lineCount ?? 0, ranked.length, rows.length)
  return {
    page: 'lines',
    order,
    from: isRanked ? from : 0,
    rows: withOpened,
    lineCount,
    ranked: isRanked ? ranked.length : 0,
    waiting: looked?.waiting ?? rows.reduce((sum, { depth }) => sum + depth, 0),
    rest: isRanked ? (lineCount > ranked.length ? 'begin' : null) : listedPage.cursor,
    open: opened === undefined ? null : await openLine(figures, opened.line, query),
  }
}
