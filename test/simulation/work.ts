import type { FaultKind } from './oracles/facts.js'

/** What a simulating process is told to do. Seeds and scenarios are data, so any process can do any of them. */
export interface Work {
  /** The folder of the program under test. */
  readonly program: string
  readonly task: { readonly seed: number; readonly faults: readonly FaultKind[] } | { readonly scenario: string }
}
