import type { Algorithm } from './algorithm.js'
import { concurrency } from './algorithms/concurrency.js'
import { custom } from './algorithms/custom.js'
import { fixedWindow } from './algorithms/fixed-window.js'
import { slidingLog } from './algorithms/sliding-log.js'
import { slidingWindow } from './algorithms/sliding-window.js'
import { leakyBucket, tokenBucket } from './algorithms/token-bucket.js'

/** The algorithms by their names in rules; `concurrency` is chosen by the unit of a limit, `custom` stands for those of users. */
export const ALGORITHMS = {
  token_bucket: tokenBucket,
  leaky_bucket: leakyBucket,
  fixed_window: fixedWindow,
  sliding_window: slidingWindow,
  sliding_log: slidingLog,
  concurrency,
  custom,
} as const satisfies Record<string, Algorithm>

export type AlgorithmName = keyof typeof ALGORITHMS

/** Whether a limit keeps lows of all its open calls, see `lows.ts`. */
export function keepsLows({ algorithm, estimated }: { readonly algorithm: AlgorithmName; readonly estimated: boolean }): boolean {
  return estimated && ALGORITHMS[algorithm].leaks
}

/** The algorithms that the field `algorithm` of a limit may name. */
export const NAMED_ALGORITHMS = ['token_bucket', 'leaky_bucket', 'fixed_window', 'sliding_window', 'sliding_log'] as const
export type NamedAlgorithm = (typeof NAMED_ALGORITHMS)[number]

/** What the field may say: an algorithm by its name, or one of the user's own. */
export type AlgorithmRef = NamedAlgorithm | `custom:${string}`

/** The name of an algorithm of the user's own that a limit names; undefined where it names none. */
export function ownName(ref: AlgorithmRef | undefined): string | undefined {
  return ref?.startsWith('custom:') === true ? ref.slice('custom:'.length) : undefined
}
