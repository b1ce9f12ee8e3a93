import type { Algorithm } from './algorithm.js'
import { block } from './block.js'
import { concurrency } from './concurrency.js'
import { fixedWindow } from './fixed-window.js'
import { tokenBucket } from './token-bucket.js'

/** The algorithms by the names that rules use; `concurrency` and `block` follow from the unit. */
export const ALGORITHMS = {
  token_bucket: tokenBucket,
  fixed_window: fixedWindow,
  concurrency,
  block,
} as const satisfies Record<string, Algorithm>

export type AlgorithmName = keyof typeof ALGORITHMS
