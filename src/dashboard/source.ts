import type { Health } from '../health/health.js'
import type { History } from '../history/answers.js'
import type { Tollgate } from '../tollgate.js'

/** What the pages read, and change. */
export type Source = Pick<Tollgate, 'rules' | 'overrides' | 'capacity' | 'meters' | 'stats' | 'calls' | 'lines' | 'explain' | 'paused' | 'keys'> & {
  readonly history: History
  health(): Promise<Health>
}

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

const NO_HISTORY: History = {
  namespace: async () => [],
  rule: async () => [],
  agent: async () => [],
  line: async () => [],
  known: async () => ({ rules: [], agents: [], lines: [] }),
  limitedBy: async () => [],
  now: async () => null,
  spend: async () => [],
  call: async (id) => ({ id, events: [], leftOut: 0, limits: [], attempts: 0, returns: 0, estimate: {}, actual: null }),
}

/** A Tollgate as the pages read it. */
export function sourceOf(tollgate: Tollgate): Source {
  const given = tollgate as Tollgate & Partial<Pick<Source, 'history' | 'health'>>
  if (given.history !== undefined && given.health !== undefined) return given as Source
  return Object.assign(Object.create(tollgate) as Tollgate, {
    history: given.history ?? NO_HISTORY,
    health: given.health ?? (async () => unknownHealth('There is no history.', Date.now())),
  })
}
