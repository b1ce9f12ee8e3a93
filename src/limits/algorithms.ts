import type { Algorithm } from './algorithm.js'
import { block } from './algorithms/block.js'
import { concurrency } from './algorithms/concurrency.js'
import { fixedWindow } from './algorithms/fixed-window.js'
import { learned } from './algorithms/learned.js'
import { pause } from './algorithms/pause.js'
import { slidingLog } from './algorithms/sliding-log.js'
import { slidingWindow } from './algorithms/sliding-window.js'
import { leakyBucket, tokenBucket } from './algorithms/token-bucket.js'

/** The algorithms by the names that rules use; `concurrency`, `block`, `learned` and `pause` are not for rules to name. */
export const ALGORITHMS = {
  token_bucket: tokenBucket,
  leaky_bucket: leakyBucket,
  fixed_window: fixedWindow,
  sliding_window: slidingWindow,
  sliding_log: slidingLog,
  concurrency,
  block,
  pause,
  learned,
} as const satisfies Record<string, Algorithm>

export type AlgorithmName = keyof typeof ALGORITHMS

/** Those a limit may name. */
export const NAMED_ALGORITHMS = ['token_bucket', 'leaky_bucket', 'fixed_window', 'sliding_window', 'sliding_log'] as const
export type NamedAlgorithm = (typeof NAMED_ALGORITHMS)[number]
