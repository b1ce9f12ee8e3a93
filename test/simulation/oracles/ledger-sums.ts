import type { Bounds, FaultKind, LedgerFact, Report } from './facts.js'
import { chargeMs, type History, type Run } from './history.js'
import { settledByMs } from './starts.js'

/** Faults for which the ledger may know more charges, or fewer, than agents saw. */
const BLURS_LEDGER: readonly FaultKind[] = [
  'death',
  'stop',
  'failover',
  'redis away',
  'redis refuses writes',
  'function flush',
  'node clock',
  'redis clock',
  'slow network',
  'cancel',
  'removed job',
]

/** The sums of the ledger: each charge is in one of them. */
export function ledgerReports(history: History, bounds: Bounds): Report[] {
  return history.facts.flatMap((fact): Report[] => {
    if (fact.fact !== 'ledger') return []
    const { atMs, open, settled, released, expired } = fact
    const report = (text: string): Report => ({ oracle: 'quiet', atMs, text: `the ledger ${text}`, calls: [] })
    const reports: Report[] = []
    // These are charged for good.
    const charged = history.runs.filter(({ story }) => story.asked.door !== 'limiter' && story.asked.door !== 'record')
    const unsettled = charged.filter((run) => settledByMs(history, run, bounds) === Number.POSITIVE_INFINITY)
    const blurred = history.faults.some(({ fault }) => BLURS_LEDGER.includes(fault))
    if (!blurred && open !== unsettled.length) {
      const calls = unsettled.slice(0, 3).map(({ story }) => story.id)
      reports.push({ ...report(`has ${open} open entries; ${unsettled.length} charges were never settled`), calls })
    }
    const least = charged.filter((run) => isCovered(history, run, bounds)).length
    // A grant that comes when its program has stopped waiting is given back, and no program knows of it.
    const late = [...history.stories.values()].filter(({ asked, answered }) => asked.door === 'acquire' && answered?.outcome === 'refused').length
    // A run that no limit counts needs no entry, and may have one.
    const most = late + charged.length
    const sum = open + settled + released + expired
    if (!blurred && (sum < least || sum > most)) {
      reports.push(
        report(
          `sums up to ${sum} (open ${open}, settled ${settled}, released ${released}, expired ${expired}); ${least === most ? least : `${least} to ${most}`} runs were charged`,
        ),
      )
    }
    if (!blurred && unsettled.length === 0) reports.push(...wrongEnds(history, charged, late, fact, bounds).map(report))
    if (open < 0 || settled < 0 || released < 0 || expired < 0)
      reports.push(report(`has a sum below 0 (open ${open}, settled ${settled}, released ${released}, expired ${expired})`))
    return reports
  })
}

/** Each end that was told is settled, or released where the agent refused the call, it was not made, or its program waited no more. */
function wrongEnds(history: History, charged: readonly Run[], late: number, { settled, released }: LedgerFact, bounds: Bounds): string[] {
  const isBack = ({ ended }: Run) => ended?.how === 'sent back' || ended?.how === 'released'
  const made = charged.filter((run) => !isBack(run)).length
  const backs = charged.filter(isBack)
  const back = backs.filter((run) => isCovered(history, run, bounds)).length
  const texts: string[] = []
  if (settled > made) texts.push(`has ${settled} settled entries; ${made} runs were made`)
  if (released > backs.length + late) texts.push(`has ${released} released entries; ${backs.length + late} charges at most were given back`)
  if (released < back) texts.push(`has ${released} released entries; ${back} runs were given back`)
  return texts
}

/** Whether some limit counts a run. A run that none counts needs no entry. */
function isCovered(history: History, run: Run, { changeMs }: Bounds): boolean {
  const atMs = chargeMs(run)
  const versions = history.metersDuring(run.story.asked.scopes, atMs - changeMs, atMs)
  return versions.length > 0 && versions.every((version) => version.some(({ form }) => form !== null))
}
