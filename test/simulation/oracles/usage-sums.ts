import { ROUNDING } from './agent-limits.js'
import { costIn, countsMode, formOf, type MetRef, meterId } from './coverage.js'
import type { Bounds, FaultKind, Form, Report, UsageFact } from './facts.js'
import { chargeMs, type History, type Run } from './history.js'
import { RETURN_MS, reportedByMs, settledByMs } from './starts.js'

/** Faults for which a call may be charged that its agent never saw: its process has the answer no more. */
const CHARGES_UNSEEN: readonly FaultKind[] = ['death', 'failover', 'redis away', 'redis refuses writes', 'stop']

/** What Tollgate says of each limit at the end, against what the runs say. */
export function usageReports(history: History, bounds: Bounds): Report[] {
  const reports: Report[] = []
  for (const fact of history.facts) {
    if (fact.fact !== 'usage') continue
    const key = fact.key === '*' ? '' : fact.key.replaceAll('|', '/')
    const text = faultOfUsage(history, bounds, { ...fact, key })
    if (text !== undefined) reports.push({ oracle: 'quiet', atMs: fact.atMs, text: `${meterId(fact.limit, key)} ${text}`, calls: [] })
  }
  return reports
}

function faultOfUsage(history: History, bounds: Bounds, { atMs, limit: name, key, used, claimed }: UsageFact): string | undefined {
  if (Math.abs(claimed) > ROUNDING) return `has ${claimed} claimed, and no call waits`
  const limit = history.versions.at(-1)?.limits.find((one) => one.name === name)
  const form = limit && formOf(limit, key)
  if (!form) return undefined
  const charges = chargesOf(history, bounds, meterId(name, key))
  const last = charges.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY
  switch (form.kind) {
    case 'slots':
      return used > 0 ? `has ${used} slots taken, and nothing runs` : undefined
    case 'bucket':
    case 'leaky bucket': {
      const most = charges.reduce((sum, { upper }) => sum + upper, 0)
      return used > ROUNDING && atMs - last > (most * 1000) / form.perSecond + bounds.leaseMs ? `lacks ${used}, and had the time to refill` : undefined
    }
    case 'fixed window':
    case 'sliding log':
    case 'sliding window':
      return faultOfWindow(history, atMs, used, form, charges)
    default:
      return form satisfies never
  }
}

interface Charged {
  readonly atMs: number
  readonly lower: number
  readonly upper: number
}

/** What each run may have left charged in a meter. */
function chargesOf(history: History, bounds: Bounds, meter: string): Charged[] {
  const charges: Charged[] = []
  for (const run of history.runs) {
    const atMs = chargeMs(run)
    const versions = history.metersDuring(run.story.asked.scopes, atMs - bounds.changeMs, atMs)
    const found = versions.map((version) => version.find(({ id, limit, form }) => id === meter && form !== null && countsMode(limit, run.degraded)))
    const met = found.find((one) => one !== undefined)
    if (met === undefined) continue
    const certain = found.every((one) => one !== undefined) && !isForgotten(history, bounds, atMs, reachesRedisMs(history, run, atMs))
    const { lower, upper } = leftOf(history, bounds, run, met)
    charges.push({ atMs, lower: certain ? lower : 0, upper })
  }
  return charges.sort((a, b) => a.atMs - b.atMs)
}

/** When the charge of a run is in Redis at the latest: of one that its process let in by itself when that has reported it. */
function reachesRedisMs(history: History, run: Run, atMs: number): number {
  return run.unchecked ? Math.max(reportedByMs(history, run), run.started.atMs + RETURN_MS) : atMs
}

/** Whether a failover may have forgotten what was written at some time of a span. */
function isForgotten({ faults }: History, { stepMs }: Bounds, fromMs: number, toMs: number): boolean {
  return faults.some((fault) => fault.fault === 'failover' && toMs >= (fault.lostFromMs ?? Number.NEGATIVE_INFINITY) - stepMs && fromMs <= fault.atMs)
}

/** What a run leaves charged: the actual cost where that was told, else the estimate; either, where it may have been lost on the way. */
function leftOf(history: History, bounds: Bounds, run: Run, { limit }: MetRef): { lower: number; upper: number } {
  const estimate = costIn(limit, run.story.asked.costs)
  const { ended, story } = run
  // A run that was cancelled costs what it had reported until then, or its estimate where its handler goes on.
  const cancelled = story.faults.some(({ fault, atMs }) => fault === 'cancel' && atMs >= run.started.atMs && atMs <= (ended?.atMs ?? atMs))
  if (ended === undefined) return { lower: cancelled ? 0 : estimate, upper: estimate }
  const back = ended.how === 'sent back' || ended.how === 'released'
  const told = back ? 0 : ended.reported ? costIn(limit, ended.actual) : estimate
  const lost =
    settledByMs(history, run, bounds) > ended.atMs + bounds.stepMs ||
    (ended.how === 'released' && !ended.reported) ||
    isForgotten(history, bounds, ended.atMs, ended.atMs)
  if (!lost && story.faults.length === 0) return { lower: told, upper: told }
  return { lower: cancelled ? 0 : Math.min(told, estimate), upper: Math.max(told, estimate) }
}

function faultOfWindow(
  history: History,
  atMs: number,
  used: number,
  form: Extract<Form, { windowMs: number }>,
  charges: readonly Charged[],
): string | undefined {
  // A clock that was set has windows of its own.
  if (history.faults.some(({ fault }) => fault === 'redis clock')) return undefined
  const fromMs = form.kind === 'fixed window' ? Math.floor(atMs / form.windowMs) * form.windowMs : atMs - form.windowMs
  // Until when a charge counts in a sliding window is known to a cell only.
  if (form.kind !== 'fixed window' && charges.some((charge) => Math.abs(charge.atMs - fromMs) <= form.windowMs / 16)) return undefined
  const inside = charges.filter((charge) => charge.atMs >= fromMs)
  const sum = (part: 'lower' | 'upper') => inside.reduce((total, charge) => total + charge[part], 0)
  const lower = sum('lower')
  const unseen = unseenCost(history, fromMs, charges)
  const upper = sum('upper') + unseen
  // What is above the limit is debt, and told apart.
  if (upper > form.limit) return undefined
  const slack = ROUNDING + upper * 1e-6
  if (used >= lower - slack && used <= upper + slack) return undefined
  const expected = upper - lower <= slack ? `${lower}` : `${lower} to ${upper}`
  return `has ${used} used; its runs sum up to ${expected}`
}

/** The most that calls may have been charged which no agent saw: for each such fault, one call for each place of its process. */
function unseenCost({ faults, workers }: History, fromMs: number, charges: readonly Charged[]): number {
  const largest = Math.max(0, ...charges.map(({ upper }) => upper))
  let calls = 0
  for (const { fault, process, untilMs } of faults) {
    if (!CHARGES_UNSEEN.includes(fault) || untilMs < fromMs) continue
    const concerned = new Map(workers.filter((worker) => process === undefined || worker.process === process).map((worker) => [worker.process, worker.places]))
    calls += 1 + [...concerned.values()].reduce((sum, places) => sum + places, 0)
  }
  return calls * largest
}
