/** The expected cost of a call. Each amount is from 0 to 1e12; fractions are allowed. */
export interface Cost {
  /** Default 1. */
  requests?: number | undefined
  /** Input and output together. Default: their sum where both are given, else an estimate. */
  tokens?: number | undefined
  /** Default: `tokens` minus the output where `tokens` is given, else an estimate. */
  inputTokens?: number | undefined
  /** Default: `tokens` minus the input where `tokens` is given, else an estimate. */
  outputTokens?: number | undefined
  /** Input that the provider does not read from its cache; default: all input. */
  uncachedInputTokens?: number | undefined
  /** US dollars. Default: computed from the tokens and the price of the model. */
  usd?: number | undefined
  /** A unit that the application defines; default 1. */
  points?: number | undefined
}

/** The units of cost, in the order of their codes in the Lua scripts. */
export const COST_UNITS = ['requests', 'tokens', 'inputTokens', 'outputTokens', 'usd', 'points', 'uncachedInputTokens'] as const
export type CostUnit = (typeof COST_UNITS)[number]

/** The cost of a call in every unit; `usd` in US dollars. */
export type Costs = Readonly<Record<CostUnit, number>>

/** The actual cost of a call; where a unit is undefined the estimate stands. */
export type ActualCosts = Readonly<Record<CostUnit, number | undefined>>

/** Actual costs, where they are below the estimate in a unit the estimate. */
export function atLeast(estimated: Costs, actual: ActualCosts): ActualCosts {
  const raised = { ...actual }
  for (const unit of COST_UNITS) if ((raised[unit] ?? 0) < estimated[unit]) raised[unit] = undefined
  return raised
}

/** The actual cost of a call that reported no usage: the estimate stands in every unit. */
export const AS_ESTIMATED: ActualCosts = {
  requests: undefined,
  tokens: undefined,
  inputTokens: undefined,
  outputTokens: undefined,
  usd: undefined,
  points: undefined,
  uncachedInputTokens: undefined,
}

/** The cost of a call that was never made. */
export const NOTHING: Costs = { requests: 0, tokens: 0, inputTokens: 0, outputTokens: 0, usd: 0, points: 0, uncachedInputTokens: 0 }

/** The units that a limit can count. */
export const UNITS = [...COST_UNITS, 'concurrency'] as const
export type Unit = (typeof UNITS)[number]

/** Whether what a call costs in a unit is known only when the call has ended. Requests and points are known when it starts, nearly always. */
export function isEstimated(unit: Unit): boolean {
  switch (unit) {
    case 'tokens':
    case 'inputTokens':
    case 'outputTokens':
    case 'uncachedInputTokens':
    case 'usd':
      return true
    case 'requests':
    case 'points':
    case 'concurrency':
      return false
    default:
      return unit satisfies never
  }
}
