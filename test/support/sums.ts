import { expect } from 'vitest'
import type { LimitSpec } from '../../src/index.js'

/** What was started, and when. */
export interface Start {
  readonly atMs: number
  readonly amount: number
}

const SLACK = 1.000001

/** The day that the clocks of a zone show, as nobody here works it out. */
function dayIn(timeZone: string): (atMs: number) => string {
  const format = new Intl.DateTimeFormat('en-CA', { timeZone, dateStyle: 'short' })
  return (atMs) => format.format(atMs)
}

/** In every window that ends with a start: no more than the limit. */
function inAnyWindow(starts: readonly Start[], limit: number, windowMs: number): void {
  let first = 0
  let sum = 0
  for (const { atMs, amount } of starts) {
    sum += amount
    while ((starts[first] as Start).atMs <= atMs - windowMs) sum -= (starts[first++] as Start).amount
    expect(sum, `started in the window to ${atMs}`).toBeLessThanOrEqual(limit * SLACK)
  }
}

function perWindow(starts: readonly Start[], limit: number, windowOf: (atMs: number) => number | string): void {
  const sums = new Map<number | string, number>()
  for (const { atMs, amount } of starts) sums.set(windowOf(atMs), (sums.get(windowOf(atMs)) ?? 0) + amount)
  for (const [window, sum] of sums) expect(sum, `started in the window ${window}`).toBeLessThanOrEqual(limit * SLACK)
}

function spaced(starts: readonly Start[], msPerUnit: number): void {
  for (const [n, { atMs }] of starts.entries()) {
    const before = starts[n - 1]
    if (before !== undefined) expect(atMs - before.atMs, `after ${before.amount}`).toBeGreaterThanOrEqual((before.amount * msPerUnit) / SLACK - 0.001)
  }
}

/** Never more than the burst and what has come back since: Σ from any start on, held against its time. */
function inBucket(starts: readonly Start[], burst: number, perMs: number): void {
  // The largest of (sum before a start) − (what had come back by then) bounds all beginnings at once.
  let sum = 0
  let least = Number.POSITIVE_INFINITY
  const fromMs = starts[0]?.atMs ?? 0
  for (const { atMs, amount } of starts) {
    const back = (atMs - fromMs) * perMs
    least = Math.min(least, sum - back)
    sum += amount
    expect(sum - back - least, `started until ${atMs}`).toBeLessThanOrEqual(burst * SLACK + 0.001 * perMs)
  }
}

/** Adds up what was started, whatever any algorithm says (invariant 1). */
export function expectNeverOver(starts: readonly Start[], spec: LimitSpec, amount: number, windowMs: number): void {
  const { algorithm, timezone } = spec
  if (algorithm === 'sliding_log' || algorithm === 'sliding_window') inAnyWindow(starts, amount, windowMs)
  else if (algorithm === 'leaky_bucket') spaced(starts, windowMs / amount)
  else if (algorithm === 'fixed_window') perWindow(starts, amount, timezone === undefined ? (atMs) => Math.floor(atMs / windowMs) : dayIn(timezone))
  else inBucket(starts, spec.burst ?? amount, amount / windowMs)
}
