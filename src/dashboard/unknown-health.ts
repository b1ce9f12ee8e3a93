import type { Health } from '../health/health.js'

const NO_FIGURES = {
  waiting: null,
  oldestMs: null,
  running: null,
  places: null,
  workers: null,
  dispatched: null,
  arrivingPerSecond: null,
  startingPerSecond: null,
}
const OF_NOTHING = { rule: null, limit: null, scopeValue: null, agent: null, queue: null, call: null, org: null }

/** The verdict while nothing is known: Redis does not answer, or no figures come. */
export function unknownHealth(why: string, atMs: number): Health {
  return {
    state: 'unknown',
    reason: 'STALE',
    sinceMs: null,
    sentence: 'How work flows is not known.',
    whom: '',
    why,
    next: { text: 'Check that Redis runs and that this server reaches it.', command: 'tollgate doctor' },
    of: OF_NOTHING,
    also: [],
    figures: NO_FIGURES,
    asOfMs: atMs,
  }
}
