import type { Bounds, FaultKind, Report } from './facts.js'
import { chargeMs, type History, type Run } from './history.js'

/** Faults for which a pause begins later than it was asked for, or a process may not know of it. */
const BLURS_PAUSES: readonly FaultKind[] = [
  'redis away',
  'redis refuses writes',
  'failover',
  'redis clock',
  'stop',
  'cut',
  'slow network',
  'function flush',
  'repeated send',
]

/** No call is charged whose scopes are paused. */
export function startsInPause(history: History, { changeMs, leaseMs }: Bounds): Report[] {
  return history.faults.flatMap((pause): Report[] => {
    const { fault, scopes, atMs, untilMs } = pause
    if (fault !== 'pause' || scopes === undefined) return []
    const blurred = history.faults.some((one) => BLURS_PAUSES.includes(one.fault) && one.atMs <= untilMs && one.untilMs + leaseMs >= atMs)
    if (blurred) return []
    const isPaused = ({ story: { asked }, unchecked }: Run) =>
      !unchecked &&
      asked.door !== 'limiter' &&
      asked.door !== 'record' &&
      Object.entries(scopes).every(([scope, value]) => asked.scopes[scope as keyof typeof scopes] === value)
    const run = history.runs.find((one) => isPaused(one) && chargeMs(one) > atMs + changeMs && chargeMs(one) < untilMs)
    if (run === undefined) return []
    const text = `${run.story.id} is charged ${(chargeMs(run) - atMs).toFixed(0)} ms after its calls were paused, for ${(untilMs - atMs).toFixed(0)} ms`
    return [{ oracle: 'never over', atMs: chargeMs(run), text, calls: [run.story.id] }]
  })
}
