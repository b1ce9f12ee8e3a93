import { SLIDING_CELLS } from '../../limits/algorithms/sliding-window.js'
import type { AlgorithmName } from '../../limits/algorithms.js'
import type { Strategy } from '../../model/call.js'
import { COST_UNITS, type Unit } from '../../model/cost.js'
import type { RuleKind } from '../../model/decision.js'
import { DEFAULTS } from '../../model/defaults.js'
import { OBSERVED_AT_MOST } from '../../model/upstream.js'
import { NO_OPTIONS } from '../../policy/compiled-rule.js'
import { PAUSE_WAIT_MS } from '../../policy/pause.js'
import { FIXED_KEYS } from '../../redis/keys.js'

/**
 * What TypeScript and the scripts both have to know, said once: codes, places in what is sent and
 * answered, and times. `LUA_CONSTANTS` is the same as Lua; the loader puts it before the library, and
 * a test holds that no Lua file declares any of it.
 */

/** What a limit counts. The codes of costs are their places in `COST_UNITS`, from 1. */
const UNIT = { REQUESTS: 1, TOKENS: 2, INPUT_TOKENS: 3, OUTPUT_TOKENS: 4, USD: 5, POINTS: 6, CONCURRENCY: 7 } as const

/** The code of each unit. */
export const UNIT_CODES: Readonly<Record<Unit, number>> = {
  requests: UNIT.REQUESTS,
  tokens: UNIT.TOKENS,
  inputTokens: UNIT.INPUT_TOKENS,
  outputTokens: UNIT.OUTPUT_TOKENS,
  usd: UNIT.USD,
  points: UNIT.POINTS,
  concurrency: UNIT.CONCURRENCY,
}

/** How room is counted. Codes are part of no stored state, but of the ids by which processes of two versions could meet: they stay. */
const ALGORITHM = { TOKEN_BUCKET: 1, FIXED_WINDOW: 2, CONCURRENCY: 3, LEAKY_BUCKET: 5, SLIDING_WINDOW: 6, SLIDING_LOG: 7 } as const

/** The code of each algorithm. */
export const ALGORITHM_CODES: Readonly<Record<AlgorithmName, number>> = {
  token_bucket: ALGORITHM.TOKEN_BUCKET,
  fixed_window: ALGORITHM.FIXED_WINDOW,
  concurrency: ALGORITHM.CONCURRENCY,
  leaky_bucket: ALGORITHM.LEAKY_BUCKET,
  sliding_window: ALGORITHM.SLIDING_WINDOW,
  sliding_log: ALGORITHM.SLIDING_LOG,
}

/** What a rule is: a pause and an upstream block have a gate, which is asked before their limits. */
const KIND = { RULE: 1, DEGRADED: 2, PAUSE: 3, UPSTREAM: 4, LIMITER: 5 } as const

/** The code of each kind of rule. */
export const KIND_CODES: Readonly<Record<RuleKind, number>> = {
  rule: KIND.RULE,
  degraded: KIND.DEGRADED,
  pause: KIND.PAUSE,
  upstream: KIND.UPSTREAM,
  limiter: KIND.LIMITER,
}

/** How strict strategies are: of rules of equal priority the strictest decides. Strategies of a user's own code share one. */
const STRICTNESS = { QUEUE: 1, THROTTLE: 2, GRACEFUL: 3, CUSTOM: 4, RETRY_AFTER: 5, HARD: 6 } as const
const STRATEGIES: readonly (Strategy | undefined)[] = [undefined, 'queue', 'throttle', 'graceful', undefined, 'retry_after', 'hard']

/** The code of a strategy. */
export function strictnessOf(strategy: Strategy): number {
  return strategy.startsWith('custom:') ? STRICTNESS.CUSTOM : STRATEGIES.indexOf(strategy)
}

/** The strategy of a code; undefined for 0, which is none, and for own code. */
export function strategyOf(strictness: number): Strategy | undefined {
  return STRATEGIES[strictness]
}

/**
 * What a script decides on a call. RUN: it may start. WATCHED: the same, and the block of its agent,
 * which has said something, has to hear of its end. SLOWED: it runs from a slot that is `wait` away.
 * WAIT: it stands in line. HOLD: it is to come again when the wait is over. REJECT: refused by its
 * strategy. REFUSED: refused where no call waits. TOO_BIG: it costs more than its limit can hold.
 * CLOSED: its limit is 0. AGAIN: it has to stand in line, and came without the call to keep there.
 * LATE: it would start after its deadline. EXPIRED: its deadline has passed. LINE_FULL: as many wait as may.
 */
export const OUTCOME = {
  RUN: 0,
  WAIT: 1,
  REJECT: 2,
  TOO_BIG: 3,
  CLOSED: 4,
  HOLD: 5,
  REFUSED: 6,
  AGAIN: 7,
  SLOWED: 8,
  LATE: 9,
  EXPIRED: 10,
  LINE_FULL: 11,
  WATCHED: 12,
} as const

export type OutcomeCode = (typeof OUTCOME)[keyof typeof OUTCOME]

/** The places in an encoded rule. ACTIVE and what follows are left out where the rule has all its limits, and no bounds. */
const RULE = { KIND: 1, PRIORITY: 2, STRICTNESS: 3, LIMITS: 4, ACTIVE: 5, OPTIONS: 6, RECOVERY: 7 } as const

/** The places in an encoded limit: by its algorithm it has a rate, a window or a lease. */
const LIMIT = { ID: 1, ALGORITHM: 2, UNIT: 3, CAPACITY: 4, RATE: 5, WINDOW: 5, LEASE: 5, OFFSET: 6, BORDERS: 7 } as const

/** The places of the keys that every script over meters gets first. */
const FIXED = Object.fromEntries(FIXED_KEYS.map((name, index) => [name.toUpperCase(), index + 1]))

/** Times and sizes. */
const NUMBERS = {
  COST_UNITS: COST_UNITS.length,
  SLIDING_CELLS,
  OBSERVED_AT_MOST,
  PAUSE_WAIT_MS,
  CLOCK_STEP_MS: DEFAULTS.clockStepMs,
  LEDGER_TTL_MS: DEFAULTS.ledgerMs,
  DEFAULT_HOLD_MS: NO_OPTIONS.holdMs,
  LOOKAHEAD_MS: DEFAULTS.lookaheadMs,
  HOLD_MAX_MS: DEFAULTS.holdMaxMs,
  PASS_CHECK_MS: DEFAULTS.passCheckMs,
  PASS_GRACE_MS: DEFAULTS.passGraceMs,
} as const

const TABLES = { UNIT, ALGORITHM, KIND, STRICTNESS, OUTCOME, RULE, LIMIT, FIXED } as const

/** The names that `LUA_CONSTANTS` declares. */
export const LUA_NAMES: readonly string[] = [...Object.keys(TABLES), ...Object.keys(NUMBERS)]

/** The table as Lua. */
export const LUA_CONSTANTS: string = [
  ...Object.entries(TABLES).map(
    ([name, table]) =>
      `local ${name} = { ${Object.entries(table)
        .map(([key, value]) => `${key} = ${value}`)
        .join(', ')} }`,
  ),
  ...Object.entries(NUMBERS).map(([name, value]) => `local ${name} = ${value}`),
  '',
].join('\n')
