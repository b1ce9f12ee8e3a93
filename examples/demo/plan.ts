import type { Call, RuleSpec } from '../../src/index.js'
import type { AgentOptions } from '../sample-agent/options.js'
import type { Account } from './account.js'

/** A call with what the demo needs to know of it beforehand. */
export interface PlannedCall extends Call {
  readonly id: string
  readonly org: string
  readonly cost: { readonly tokens: number }
}

/** What a run of the demo does. */
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
  /** After this long something is wrong. */
  readonly longestMs: number
}
