import type { AlgorithmName } from '../../limits/algorithms.js'
import type { Strategy } from '../../model/call.js'
import { COST_UNITS, type Unit } from '../../model/cost.js'

/** The codes by which scripts know what a limit counts; those of costs are their places in `COST_UNITS`, from 1. */
export const UNIT_CODES: Readonly<Record<Unit | 'none', number>> = {
  requests: 1,
  tokens: 2,
  inputTokens: 3,
  outputTokens: 4,
  usd: 5,
  points: 6,
  concurrency: 7,
  none: 8,
}

/** The codes by which scripts know an algorithm. */
export const ALGORITHM_CODES: Readonly<Record<AlgorithmName, number>> = {
  token_bucket: 1,
  fixed_window: 2,
  concurrency: 3,
  block: 4,
  leaky_bucket: 5,
  sliding_window: 6,
  sliding_log: 7,
  pause: 8,
  learned: 9,
}

/** How strict strategies are, as scripts compare them, by their place; those of own code share one. */
const STRICTNESS: readonly string[] = ['', 'queue', 'throttle', 'graceful', 'custom', 'retry_after', 'hard']

/** The code by which scripts know a strategy. */
export function strictnessOf(strategy: Strategy): number {
  return STRICTNESS.indexOf(strategy.startsWith('custom:') ? 'custom' : strategy)
}

/** The strategy of a code; undefined for 0, which is none, and for own code. */
export function strategyOf(strictness: number): Strategy | undefined {
  const name = STRICTNESS[strictness]
  return name === '' || name === 'custom' ? undefined : (name as Strategy | undefined)
}

/** What a script decides on a call; the decoder says what each becomes. */
export const OUTCOMES = {
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
  FULL: 11,
  WATCHED: 12,
} as const

/** The codes of units of cost, ascending, as a batch names them. */
export function unitCodes(units: readonly (typeof COST_UNITS)[number][]): readonly number[] {
  return COST_UNITS.filter((unit) => units.includes(unit)).map((unit) => UNIT_CODES[unit])
}
