import { expect } from 'vitest'
import type { LimitSpec } from '../../src/index.js'

/** When a call started, and what it cost. */
export interface Start {
  readonly atMs: number
  readonly amount: number
}

const SLACK = 1.000001

/** The day that clocks of a time zone show, by Intl: the code under test has its own calendar. */
function dayIn(timeZone: string): (atMs: number) => string {
  const format = new Intl.DateTimeFormat('en-CA', { timeZone, dateStyle: 'short' })
  return (atMs) => format.format(atMs)
}

/** Checks every window that ends with a start against the limit. */
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

/** Each start keeps the next one away for as long as its cost takes to leak out; after a longer pause the time counts anew. */
function spaced(starts: readonly Start[], msPerUnit: number): void {
  let emptyMs = Number.NEGATIVE_INFINITY
  for (const { atMs, amount } of starts) {
    expect(atMs, 'a start before all that started has leaked out').toBeGreaterThanOrEqual(emptyMs - 0.001 - (SLACK - 1) * msPerUnit * amount)
    emptyMs = Math.max(emptyMs, atMs) + amount * msPerUnit
  }
}

/** From any start on, the sum of the starts is at most the burst and what was refilled since. */
function inBucket(starts: readonly Start[], burst: number, perMs: number): void {
  // The smallest (sum before a start) − (refilled by then) stands for the beginning that allows least: one pass checks them all.
  let sum = 0
  let least = Number.POSITIVE_INFINITY
  const fromMs = starts[0]?.atMs ?? 0
  for (const { atMs, amount } of starts) {
    const refilled = (atMs - fromMs) * perMs
    least = Math.min(least, sum - refilled)
    sum += amount
    expect(sum - refilled - least, `started until ${atMs}`).toBeLessThanOrEqual(burst * SLACK + 0.001 * perMs)
  }
}

/** Adds up the costs of the starts, without any algorithm of the program (invariant 1). */
export function expectNeverOver(starts: readonly Start[], spec: LimitSpec, amount: number, windowMs: number): void {
  const { algorithm, timezone } = spec
  if (algorithm === 'sliding_log' || algorithm === 'sliding_window') inAnyWindow(starts, amount, windowMs)
  else if (algorithm === 'leaky_bucket') spaced(starts, windowMs / amount)
  else if (algorithm === 'fixed_window') perWindow(starts, amount, timezone === undefined ? (atMs) => Math.floor(atMs / windowMs) : dayIn(timezone))
  else inBucket(starts, spec.burst ?? amount, amount / windowMs)
}
