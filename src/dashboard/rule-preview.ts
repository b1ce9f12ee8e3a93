import type { DiffLine } from './line-diff.js'

/** What a change of a rule would do. */
export interface RulePreview {
  /** Why it cannot be applied, naming field, value and bound. */
  readonly faults: readonly string[]
  readonly diff: readonly DiffLine[]
  /** What it would do, in sentences with numbers. */
  readonly effects: readonly string[]
  readonly warnings: readonly string[]
}
