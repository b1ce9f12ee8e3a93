/**
 * What a call costs: requests; tokens, those it sends and those it is answered with; US
 * dollars; and points, which mean what an app wants them to.
 */
export const COST_UNITS = ['requests', 'tokens', 'inputTokens', 'outputTokens', 'usd', 'points'] as const
export type CostUnit = (typeof COST_UNITS)[number]

/** What a call costs in every unit; 0 in those that nobody counts. */
export type Costs = Readonly<Record<CostUnit, number>>

/** What a call has really cost; what is undefined stays as estimated. */
export type ActualCosts = Readonly<Record<CostUnit, number | undefined>>
