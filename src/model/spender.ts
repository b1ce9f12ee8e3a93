/** Who spends, as the history sums it. */
export const SPENDERS = ['org', 'team', 'user', 'model'] as const
export type Spender = (typeof SPENDERS)[number]
