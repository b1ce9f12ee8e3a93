/** What a call can cost, in the order of the codes by which scripts know them. */
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
