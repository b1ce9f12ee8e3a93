import type { Allowed } from './fleet/spec.js'

/** What a simulating process is told to do. Seeds and scenarios are data, so any process can do any of them. */
export interface Work {
  /** The folder of the program under test. */
  readonly program: string
  readonly task: ({ readonly seed: number } & Allowed) | { readonly scenario: string }
}
