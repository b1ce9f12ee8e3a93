const WHOLE = '█'
const EMPTY = '░'

export function bar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width)
  return WHOLE.repeat(filled) + EMPTY.repeat(width - filled)
}

export function count(value: number): string {
  return Math.round(value).toLocaleString('en')
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

/** In ms below a second, in seconds above. */
export function duration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : seconds(ms)
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`
}

/** The value below which the given share of values lies; 0 where there are none. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}
