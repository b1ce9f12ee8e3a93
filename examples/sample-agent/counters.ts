/** Counts since the agent started. */
export interface Counters {
  requests: number
  answered: number
  tooMany: number
  invalid: number
  promptTokens: number
  completionTokens: number
}

export function newCounters(): Counters {
  return { requests: 0, answered: 0, tooMany: 0, invalid: 0, promptTokens: 0, completionTokens: 0 }
}
