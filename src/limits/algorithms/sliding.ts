import type { MeterLimit, MeterState } from '../algorithm.js'

/** Whether nothing that a sliding algorithm remembers counts still. */
export function isEmpty({ history, gone }: MeterState): boolean {
  return history === null || history.length === gone
}

/**
 * How much has to come free first, and for how many rounds before: those ahead take what is
 * free now and what comes free, and give it back a round later.
 */
export function roundsAhead(limit: MeterLimit, used: number, over: number): { over: number; rounds: number } {
  const round = Math.max(used, limit.capacity)
  const rounds = Math.max(0, Math.ceil((over - limit.slack) / round) - 1)
  return { over: over - rounds * round, rounds }
}

/** What of an overrun does not fit beside what is used. Closed limits owe nothing. */
export function beyondCapacity({ capacity }: MeterLimit, used: number, amount: number): number {
  return capacity > 0 ? Math.max(0, Math.min(amount, used + amount - capacity)) : 0
}

/** What fits beside everything that was charged after a time or cell, up to the last: debt that is dated with the last counts together with it. */
export function roomBeside({ capacity }: MeterLimit, history: readonly number[], after: number): number {
  let room = capacity
  for (let place = history.length - 2; place >= 0 && (history[place] as number) > after; place -= 2) room -= history[place + 1] as number
  return Math.max(0, room)
}
