import type { Bounds, FaultKind, Report } from './facts.js'
import { chargeMs, type History, type Story } from './history.js'

/** Faults for which a worker may not hear that its call was cancelled, or Redis may forget it. */
const UNHEARD: readonly FaultKind[] = [
  'death',
  'stop',
  'cut',
  'failover',
  'repeated send',
  'slow network',
  'redis away',
  'redis refuses writes',
  'redis clock',
  'function flush',
  'removed job',
]

/** A call whose app was told that it is cancelled does not start any more, and has the result cancelled. */
export function cancelledStays(history: History, bounds: Bounds): Report[] {
  return [...history.stories.values()].flatMap((story): Report[] => {
    const told = story.cancelled.find(({ took }) => took)
    if (told === undefined || story.answered?.outcome === 'joined') return []
    const text = faultAfter(history, story, told.atMs, bounds)
    return text === undefined ? [] : [{ oracle: 'nothing lost', atMs: told.atMs, text: `${story.id} ${text}`, calls: [story.id] }]
  })
}

function faultAfter(history: History, { asked, runs, results }: Story, toldMs: number, { stepMs, leaseMs }: Bounds): string | undefined {
  const disturbed = (toMs: number) =>
    history.faults.some(({ fault, atMs, untilMs }) => UNHEARD.includes(fault) && atMs <= toMs && untilMs + leaseMs >= asked.atMs)
  const run = runs.find((one) => chargeMs(one) > toldMs + stepMs)
  if (run !== undefined && !disturbed(run.started.atMs)) return `starts ${(chargeMs(run) - toldMs).toFixed(0)} ms after its app was told that it is cancelled`
  const [result] = results
  // It may have ended at that moment.
  const endedMs = Math.min(...runs.flatMap(({ ended }) => (ended === undefined || ended.how === 'sent back' ? [] : [ended.atMs])))
  if (result === undefined || result.how === 'cancelled' || endedMs <= toldMs + stepMs || disturbed(result.atMs)) return undefined
  return `is told to be cancelled, and has the result ${result.how}`
}
