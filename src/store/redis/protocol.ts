import { NO_BOUND } from '../../limits/algorithm.js'
import { CUSTOM_SHORTEST_MS, STATE_AT_MOST } from '../../limits/algorithms/custom.js'
import { SLIDING_CELLS } from '../../limits/algorithms/sliding-window.js'
import type { AlgorithmName } from '../../limits/algorithms.js'
import { LOWS_AT_MOST } from '../../limits/lows.js'
import { STRATEGIES, type Strategy } from '../../model/call.js'
import { COST_UNITS, type Unit } from '../../model/cost.js'
import type { RuleKind } from '../../model/decision.js'
import { DEFAULTS } from '../../model/defaults.js'
import { DAY, HOUR, MINUTE } from '../../model/time.js'
import { OBSERVED_AT_MOST } from '../../model/upstream.js'
import { NO_OPTIONS } from '../../policy/compiled-rule.js'
import { PAUSE_WAIT_MS } from '../../policy/pause.js'
import { FIXED_KEYS } from '../../redis/keys.js'

/**
 * What TypeScript and the scripts both have to know, said once: codes, places in what is sent and answered, and times. `LUA_CONSTANTS` is the same as
 * Lua; the loader puts it before the library, and a test holds that no Lua file declares any of it.
 */

/** The code of each unit. Those of costs are their places in `COST_UNITS`, from 1. */
export const UNIT_CODES: Readonly<Record<Unit, number>> = {
  ...{ requests: 1, tokens: 2, inputTokens: 3, outputTokens: 4, usd: 5, points: 6, uncachedInputTokens: 7 },
  concurrency: 8,
}

/** The code of each algorithm. Codes are part of no stored state, but of the ids by which processes of two versions could meet: they stay. */
export const ALGORITHM_CODES: Readonly<Record<AlgorithmName, number>> = {
  token_bucket: 1,
  fixed_window: 2,
  concurrency: 3,
  leaky_bucket: 5,
  sliding_window: 6,
  sliding_log: 7,
  custom: 8,
}

/** The code of each kind of rule. A pause and an upstream block have a gate, which is asked before their limits. */
export const KIND_CODES: Readonly<Record<RuleKind, number>> = { rule: 1, degraded: 2, pause: 3, upstream: 4, limiter: 5 }

/**
 * How strict strategies are: of rules of equal priority the strictest decides. Strategies of a user's own code share one. `waits` is none of a rule: see
 * `AdmissionRequest.strategy`.
 */
export const STRICTNESS_CODES: Readonly<Record<NamedStrategy | 'custom' | 'waits', number>> = {
  queue: 1,
  throttle: 2,
  graceful: 3,
  custom: 4,
  retry_after: 5,
  hard: 6,
  waits: 7,
}
type NamedStrategy = (typeof STRATEGIES)[number]

export function strictnessOf(strategy: Strategy | 'waits'): number {
  return STRICTNESS_CODES[strategy.startsWith('custom:') ? 'custom' : (strategy as NamedStrategy | 'waits')]
}

/** The strategy of a code; undefined for 0, which is none, and for own code. */
export function strategyOf(strictness: number): Strategy | undefined {
  return STRATEGIES.find((strategy) => STRICTNESS_CODES[strategy] === strictness)
}

/**
 * What a script decides on a call. RUN: it may start. WATCHED: the same, and the block of its agent, which has said something, has to hear of its
 * end. SLOWED: it runs from a slot that is `wait` away. WAIT: it stands in line. HOLD: it is to come again when the wait is over. REJECT: refused by
 * its strategy. REFUSED: refused where no call waits. TOO_BIG: it costs more than its limit can hold. CLOSED: its limit is 0. AGAIN: it has to stand
 * in line, and came without the call to keep there. LATE: it would start after its deadline. EXPIRED: its deadline has passed. LINE_FULL: as many
 * wait as may. LOST: its worker has not the job of the call any more. TAKEN: its id is that of another call. JOINED: its job exists already.
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
  LOST: 13,
  TAKEN: 14,
  JOINED: 15,
} as const

/**
 * What the refusal of a call says of its agent. BLOCKS: the agent is blocked. BESIDE: its call was in flight then. STALE: its call started before a
 * block that has ended. ALONE: the agent takes other calls, and not this one. `lua/lib/refusal.lua` has the model.
 */
export const REFUSAL = { BLOCKS: 1, BESIDE: 2, STALE: 3, ALONE: 4 } as const

/** The field of a job's hash in BullMQ that counts how often its agent refused it (`lua/lib/returns.lua`). */
export const RETURNS_FIELD = 'tollgate:returns'

export type OutcomeCode = (typeof OUTCOME)[keyof typeof OUTCOME]

/** The places in an encoded rule. ACTIVE and what follows are left out where the rule has all its limits, and no bounds. */
const RULE = { KIND: 1, PRIORITY: 2, STRICTNESS: 3, LIMITS: 4, ACTIVE: 5, OPTIONS: 6, RECOVERY: 7 } as const

/** The places in an encoded limit: by its algorithm it has a rate, a window or a lease; one of a user's own brings its Lua along. */
const LIMIT = {
  ID: 1,
  ALGORITHM: 2,
  UNIT: 3,
  CAPACITY: 4,
  RATE: 5,
  WINDOW: 5,
  LEASE: 5,
  OFFSET: 6,
  CUSTOM_RATE: 6,
  BORDERS: 7,
  LUA: 7,
  OWN_CAPACITY: 8,
} as const

/** The places in the options of a rule, and in how its agent recovers. */
const OPTION = { MAX_WAIT: 1, MAX_WAITING: 2, HOLD: 3, MAX_DELAY: 4, DEGRADES: 5 } as const
const RECOVERY = { ID: 1, PROBE_LEASE: 2, EVERY: 3, GROWS: 4 } as const

function placed<Name extends string>(places: Readonly<Record<Name, number>>, values: Readonly<Record<Name, number>>): number[] {
  return (Object.keys(places) as Name[]).sort((one, other) => places[one] - places[other]).map((name) => values[name])
}

export const encodedOptions = (values: Readonly<Record<keyof typeof OPTION, number>>) => placed(OPTION, values)
export const encodedRecovery = (values: Readonly<Record<keyof typeof RECOVERY, number>>) => placed(RECOVERY, values)

/** The places of what a reply says of a call after its outcome, where the call neither runs nor is sent again. */
export const DETAIL = { WAIT: 1, METER: 2, LIMIT: 3, RANK: 4, STRICTNESS: 5, MOST: 6 } as const

/**
 * What the dispatcher tells the front door of a queue. OPEN: its workers take calls. FULL: they have taken none for a while, all are busy. SHUT: it has
 * no worker, or is paused.
 */
export const QUEUE_STATE = { OPEN: 0, FULL: 1, SHUT: 2 } as const
export type QueueStateCode = (typeof QUEUE_STATE)[keyof typeof QUEUE_STATE]

/**
 * The resolutions of the history (`lua/add-history.lua`): the length of a point in ms (0: one point since a time), how many points are a chunk, how many
 * chunks are kept beside the point under way, and for how long a series is kept after its last point.
 */
export const RESOLUTION = {
  m: [MINUTE, 60, 25, 31 * DAY],
  h: [HOUR, 24, 31, 31 * DAY],
  d: [DAY, 31, 3, 95 * DAY],
  t: [0, 1, 1, 31 * DAY],
} as const
export type Resolution = keyof typeof RESOLUTION

/** The fields of a job's hash in BullMQ that have the events of its call, and its limits at its start (`lua/note-events.lua`). */
export const EVENTS_FIELD = 'tollgate:events'
export const LIMITS_FIELD = 'tollgate:limits'

/** The places of the keys that every script over meters gets first. */
const FIXED = Object.fromEntries(FIXED_KEYS.map((name, index) => [name.toUpperCase(), index + 1]))

const NUMBERS = {
  COST_UNITS: COST_UNITS.length,
  SLIDING_CELLS,
  STATE_AT_MOST,
  NO_BOUND,
  CUSTOM_FAULT_MS: DEFAULTS.customFaultMs,
  CUSTOM_LONGEST_MS: DEFAULTS.longestWindowMs,
  CUSTOM_SHORTEST_MS,
  LOWS_AT_MOST,
  OBSERVED_AT_MOST,
  PAUSE_WAIT_MS,
  CLOCK_STEP_MS: DEFAULTS.clockStepMs,
  LEDGER_TTL_MS: DEFAULTS.ledgerMs,
  AUDIT_AT_MOST: DEFAULTS.auditAtMost,
  COUNTED_RESETS_MS: DEFAULTS.countedResetsMs,
  DEFAULT_HOLD_MS: NO_OPTIONS.holdMs,
  LOOKAHEAD_MS: DEFAULTS.lookaheadMs,
  HOLD_MAX_MS: DEFAULTS.holdMaxMs,
  PASS_CHECK_MS: DEFAULTS.passCheckMs,
  PASS_GRACE_MS: DEFAULTS.passGraceMs,
  CLAIM_MS: DEFAULTS.claimMs,
  CLAIM_STEP_MS: DEFAULTS.claimStepMs,
  JOB_AWAITED_MS: DEFAULTS.jobAwaitedMs,
  ABANDONED_LINE_MS: DEFAULTS.abandonedLineMs,
  QUEUE_LOOK_MS: DEFAULTS.queueLookMs,
  SHUT_QUEUE_LOOK_MS: DEFAULTS.shutQueueLookMs,
  SILENCE_MS: DEFAULTS.silenceMs,
  SLOT_GRACE_MS: DEFAULTS.slotGraceMs,
  PATIENCE_MS: DEFAULTS.patienceMs,
  LONGEST_PATIENCE_MS: DEFAULTS.longestPatienceMs,
  RETURN_LEAD_MS: DEFAULTS.returnLeadMs,
  SENDER_TTL_MS: DEFAULTS.senderMs,
} as const

/** A table of codes as Lua names them: `inputTokens` is INPUT_TOKENS. */
function luaNamed(codes: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(codes).map(([name, code]) => [name.replace(/[A-Z]/g, '_$&').toUpperCase(), code]))
}

const TABLES = {
  UNIT: luaNamed(UNIT_CODES),
  ALGORITHM: luaNamed(ALGORITHM_CODES),
  KIND: luaNamed(KIND_CODES),
  STRICTNESS: luaNamed(STRICTNESS_CODES),
  ...{ OUTCOME, RULE, LIMIT, OPTION, RECOVERY, REFUSAL, DETAIL, QUEUE_STATE, FIXED },
} as const

const LISTS = { RESOLUTION } as const

const TEXTS = { RETURNS_FIELD, EVENTS_FIELD, LIMITS_FIELD } as const

export const LUA_NAMES: readonly string[] = [TABLES, LISTS, NUMBERS, TEXTS].flatMap((constants) => Object.keys(constants))

/** The table as Lua. */
export const LUA_CONSTANTS: string = [
  ...Object.entries(TABLES).map(([name, table]) => {
    const fields = Object.entries(table).map(([key, value]) => `${key} = ${value}`)
    return `local ${name} = { ${fields.join(', ')} }`
  }),
  ...Object.entries(LISTS).map(([name, lists]) => {
    const fields = Object.entries(lists).map(([key, values]) => `${key} = { ${values.join(', ')} }`)
    return `local ${name} = { ${fields.join(', ')} }`
  }),
  ...Object.entries(NUMBERS).map(([name, value]) => `local ${name} = ${value}`),
  ...Object.entries(TEXTS).map(([name, text]) => `local ${name} = ${JSON.stringify(text)}`),
  '',
].join('\n')
