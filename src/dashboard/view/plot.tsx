import { useEffect, useRef } from 'preact/hooks'
import type { Spend } from '../../history/answers.js'
import { amountText, clockTime, dayOf } from './format.js'

const DAY = 86_400_000

/** The sums of a month, day by day, with what is likely to come. Times are in seconds, as the plot takes them. */
export function burnUp({ days, pacePerDay, monthRange, month, budget }: Spend, nowMs: number) {
  const now = new Date(nowMs)
  const begin = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1)
  const end = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1)
  const spent: (readonly [number, number])[] = [[begin, 0]]
  let sum = 0
  for (const day of days.filter(({ atMs }) => atMs >= begin)) {
    sum += day.amount
    spent.push([Math.min(day.atMs + DAY, nowMs), sum])
  }
  // Figures of the days before the history began are missing there, and not in the sum of the month.
  const missing = month - sum
  const times = [...new Set([...spent.map(([atMs]) => atMs), nowMs, end])].sort((one, other) => one - other)
  const of = (known: readonly (readonly [number, number])[]) => times.map((atMs) => known.find(([time]) => time === atMs)?.[1] ?? null)
  const limit = budget !== null && budget.windowMs > 8 * DAY ? budget.amount : null
  return {
    times: times.map((atMs) => atMs / 1000),
    spent: of([...spent.slice(0, 1), ...spent.slice(1).map(([atMs, value]) => [atMs, value + missing] as const), [nowMs, month]]),
    pace: of([
      [nowMs, month],
      [end, month + (pacePerDay * (end - nowMs)) / DAY],
    ]),
    low: of([
      [nowMs, month],
      [end, Math.max(month, monthRange[0])],
    ]),
    high: of([
      [nowMs, month],
      [end, Math.max(month, monthRange[1])],
    ]),
    even:
      limit === null
        ? null
        : of([
            [begin, 0],
            [end, limit],
          ]),
    limit: limit === null ? null : times.map(() => limit),
  }
}

function describe(row: Spend, unit: string, nowMs: number): string {
  const { budget } = row
  const limit =
    budget === null ? '' : `, limit ${amountText(budget.amount, unit)}${budget.runsOutMs === null ? '' : `, reached at ${clockTime(budget.runsOutMs, nowMs)}`}`
  return `${row.name}: ${amountText(row.month, unit)} spent by ${dayOf(nowMs)}, likely ${amountText(row.monthRange[0], unit)} to ${amountText(row.monthRange[1], unit)} at the end of the month${limit}`
}

/** Spent this month, with the band in which it will end. Drawn in the browser; it has its place and its words before. */
export function BurnUp({ row, unit, nowMs }: { row: Spend; unit: string; nowMs: number }) {
  const place = useRef<HTMLDivElement>(null)
  const { month, pacePerDay } = row
  // Drawn anew where its figures have changed, not each second.
  useEffect(() => {
    let gone = false
    let remove = () => {}
    void import('./burn-up.js').then(({ drawBurnUp }) => {
      if (!gone && place.current !== null) remove = drawBurnUp(place.current, burnUp(row, nowMs), unit)
    })
    return () => {
      gone = true
      remove()
    }
  }, [row.name, unit, Math.round(month * 100), Math.round(pacePerDay * 100)])
  return (
    <figure>
      <div class="plot" ref={place} role="img" aria-label={describe(row, unit, nowMs)} />
      <figcaption class="s">{describe(row, unit, nowMs)}.</figcaption>
    </figure>
  )
}
