import type { Call } from '../../../src/model/call.js'
import type { RuleSpec } from '../../../src/policy/rule.js'
import type { Upstream } from '../../../src/policy/upstream-block.js'
import type { FactCosts, FactLimit, FactUnit, Form } from '../oracles/facts.js'
import type { Budget } from './model.js'

/** A limit of an agent on what starts in a time. */
export interface RateLimit extends Pick<FactLimit, 'name' | 'by'> {
  readonly unit: FactUnit
  readonly form: Extract<Form, { kind: 'bucket' | 'fixed window' }>
}

/** A limit of an agent on what runs at once. */
export interface SlotLimit extends Pick<FactLimit, 'name' | 'by'> {
  readonly form: Extract<Form, { kind: 'slots' }>
}

/** A fleet small enough that everything that can happen in it is tried. */
export interface Scope {
  readonly name: string
  /** What it is there to find. */
  readonly about: string
  readonly calls: readonly Call[]
  /** What each call really costs, where that is not its estimate. */
  readonly actual?: readonly FactCosts[]
  /** How many apps enqueue them, in turn. */
  readonly apps: number
  readonly workers: number
  /** Whether workers are of one process, which sends their starts and ends together; they may come apart as well. */
  readonly batches: boolean
  /** The versions of the rules, of which the first is in force at the beginning. */
  readonly rules: readonly (readonly RuleSpec[])[]
  /** The same limits as their agent holds them by itself: for the checks, which know nothing of rules. */
  readonly rates: readonly RateLimit[]
  readonly slots: readonly SlotLimit[]
  readonly upstream: Upstream
  readonly budget: Budget
  /** Whether a script call that is sent twice may arrive a second time after its sender has a reply; otherwise only its first reply is lost. */
  readonly lateCopies: boolean
  /** Which processes may die. */
  readonly mortal: readonly ('app' | 'worker' | 'dispatcher')[]
  /** How much time may pass at once. */
  readonly jumpsMs: readonly number[]
  /** How long a run takes at least. */
  readonly runMs: number
  /** How late a call may start whose own app and worker are well. */
  readonly lateMs: number
  /** For how long the agent asks to be left alone where it refuses a call. */
  readonly retryAfterMs: number
  /** How many states are visited at most in `npm test`, and where the scope is to be completed. */
  readonly quick: number
  readonly full: number
}

/** The lease of a slot, and the lock of a job. */
export const SLOT_LEASE_MS = 2000
export const JOB_LOCK_MS = 1000
