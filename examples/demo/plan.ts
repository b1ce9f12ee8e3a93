import type { Call, RuleSpec } from '../../src/index.js'
import type { AgentOptions } from '../sample-agent/options.js'
import type { Account } from './account.js'

/** A call with the fields that the demo shows and counts by. */
export interface PlannedCall extends Call {
  readonly id: string
  readonly org: string
  readonly cost: { readonly tokens: number }
}

/** The agent, the rules and the calls of one run of the demo. */
export interface Plan {
  readonly title: string
  readonly account: Account
  readonly rules: readonly RuleSpec[]
  readonly agent: Partial<AgentOptions>
  /** The organisations that call, in the order they are shown. */
  readonly orgs: readonly string[]
  /** In the order of their time, in ms from the start. */
  readonly calls: readonly { readonly atMs: number; readonly call: PlannedCall }[]
  /** Calls that the worker process runs at once. */
  readonly concurrency: number
  /** The run is aborted after this time. */
  readonly longestMs: number
}
