import { DAY, HOUR } from '../model/time.js'
import type { LedgerFigures } from './store.js'

/** Sums up what `lua/lib/figures.lua` counts. */
export function readFigures(counts: Readonly<Record<string, string>>, nowMs: number): LedgerFigures {
  let open = 0
  let expired = Number(counts['expired'] ?? 0)
  for (const [name, count] of Object.entries(counts)) {
    const [, hour] = /^open:(-?\d+)$/.exec(name) ?? []
    if (hour === undefined) continue
    // An entry that was opened in this hour may have a moment to live still.
    if ((Number(hour) + 1) * HOUR + DAY > nowMs) open += Number(count)
    else expired += Number(count)
  }
  const estimated = Number(counts['estimated'] ?? 0)
  return {
    open,
    settled: Number(counts['settled'] ?? 0),
    released: Number(counts['released'] ?? 0),
    expired,
    overEstimatedPercent: overEstimatedPercent(estimated, Number(counts['actual'] ?? 0)),
  }
}

export function overEstimatedPercent(estimated: number, actual: number): number | null {
  return estimated === 0 ? null : (100 * (estimated - actual)) / estimated
}
