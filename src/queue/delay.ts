import { DEFAULTS } from '../config/defaults.js'

/**
 * How long the BullMQ job of a waiting call is delayed: its estimated wait and a margin.
 * The drainer wakes it long before; the delay is for the case that no drainer lives.
 * @param etaMs null where nobody can know: then rarely, since each time costs a worker a look
 */
export function delayMs(etaMs: number | null): number {
  const wait = etaMs ?? DEFAULTS.unknownWaitMs
  const margin = Math.max(DEFAULTS.returnMarginMs, wait * DEFAULTS.returnMarginShare)
  return Math.ceil(Math.min(DEFAULTS.longestDelayMs, wait + margin))
}
