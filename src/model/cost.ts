/** What a call is expected to cost, in each unit from 0 to MAX_AMOUNT; fractions are allowed. */
export interface Cost {
  /** Default 1. */
  requests?: number | undefined
  /** Input and output together; default their sum where both are given, else estimated. */
  tokens?: number | undefined
  /** Default `tokens` less the output where `tokens` are given, else estimated. */
  inputTokens?: number | undefined
  /** Default `tokens` less the input where `tokens` are given, else estimated. */
  outputTokens?: number | undefined
  /** US dollars; default by the tokens and the price of the model. */
  usd?: number | undefined
  /** A unit of your own; default 1. */
  points?: number | undefined
} /** What a call can cost, in the order of the codes by which scripts know them. */
export const COST_UNITS = ['requests', 'tokens', 'inputTokens', 'outputTokens', 'usd', 'points'] as const
export type CostUnit = (typeof COST_UNITS)[number]

/** What a call costs in each unit; usd in US dollars, the others counted. */
export type Costs = Readonly<Record<CostUnit, number>>

/** What a call has really cost; undefined stays as estimated. */
export type ActualCosts = Readonly<Record<CostUnit, number | undefined>>

/** The call cost what it was expected to. */
export const AS_ESTIMATED: ActualCosts = {
  requests: undefined,
  tokens: undefined,
  inputTokens: undefined,
  outputTokens: undefined,
  usd: undefined,
  points: undefined,
}

/** The call was never made. */
export const NOTHING: Costs = { requests: 0, tokens: 0, inputTokens: 0, outputTokens: 0, usd: 0, points: 0 }

/** What limits can count. */
export const UNITS = [...COST_UNITS, 'concurrency'] as const
export type Unit = (typeof UNITS)[number]
