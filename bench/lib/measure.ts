/** The most events in any window of the given length; times in ms, in any order. */
export function mostInAny(times: readonly number[], windowMs: number): number {
  const sorted = [...times].sort((a, b) => a - b)
  let first = 0
  let most = 0
  for (const [index, time] of sorted.entries()) {
    while (time - (sorted[first] as number) >= windowMs) first++
    most = Math.max(most, index - first + 1)
  }
  return most
}

/** The value below which the given share of values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/** The middle value, which outliers of a noisy machine do not change. */
export function median(values: readonly number[]): number {
  return percentile(values, 0.5)
}

/** A measured value against its bar. */
export interface Figure {
  readonly what: string
  /** Null where it could not be measured. */
  readonly value: number | null
  readonly bar: string
  readonly ok: boolean
  /** Further figures of the run, and how it was measured. */
  readonly detail: string
}

export function atLeast(what: string, value: number, bar: number, detail: string): Figure {
  return { what, value, bar: `≥ ${bar}`, ok: value >= bar, detail }
}

export function atMost(what: string, value: number, bar: number, detail: string): Figure {
  return { what, value, bar: `≤ ${bar}`, ok: value <= bar, detail }
}

/** A figure without a value counts as missed. */
export function notMeasured(what: string, bar: string, why: string): Figure {
  return { what, value: null, bar, ok: false, detail: `not measured: ${why}` }
}
