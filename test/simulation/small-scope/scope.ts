import type { Call } from '../../../src/model/call.js'
import type { RuleSpec } from '../../../src/policy/rule.js'
import type { Upstream } from '../../../src/policy/upstream-block.js'
import type { FactCosts, FactLimit } from '../oracles/facts.js'
import { BUDGETS, type Budget } from './model.js'

/** A fleet small enough that everything that can happen in it is tried. */
export interface Scope {
  readonly name: string
  /** What it is there to find. */
  readonly about: string
  readonly calls: readonly Call[]
  /** What each call really costs, where that is not its estimate. */
  readonly actual?: readonly FactCosts[]
  readonly workers: number
  /** The versions of the rules, of which the first is in force at the beginning. */
  readonly rules: readonly (readonly RuleSpec[])[]
  /** The same limits as their agent holds them by itself: for the checks, which know nothing of rules. */
  readonly limits: readonly FactLimit[]
  readonly upstream: Upstream
  readonly budget: Budget
  /** How much time may pass at once. */
  readonly jumpsMs: readonly number[]
  /** How long a run takes at least. */
  readonly runMs: number
  /** For how long the agent asks to be left alone where it refuses a call. */
  readonly retryAfterMs: number
  /** How many states are visited at most in `npm test`, and where the scope is to be completed. */
  readonly quick: number
  readonly full: number
}

/** The lease of a slot, and the lock of a job. */
export const SLOT_LEASE_MS = 2000
export const JOB_LOCK_MS = 1000

const ACCOUNT: RuleSpec = { name: 'account', scope: 'agent', limits: [{ requests: 2, per: 'second', burst: 1 }] }
const SLOTS: RuleSpec = { name: 'slots', scope: 'org', limits: [{ concurrency: 1, lease: '2s' }] }
const AGENT_ACCOUNT: FactLimit = { name: 'account', by: ['agent'], unit: 'requests', form: { kind: 'bucket', perSecond: 2, burst: 1 } }
const AGENT_SLOTS: FactLimit = { name: 'slots', by: ['org'], form: { kind: 'slots', slots: 1, leaseMs: SLOT_LEASE_MS } }

const NO_BUDGET = Object.fromEntries(BUDGETS.map((name) => [name, 0])) as Budget

const BASE: Omit<Scope, 'name' | 'about' | 'budget' | 'quick' | 'full'> = {
  calls: [
    { agent: 'a', org: 'x' },
    { agent: 'a', org: 'x' },
    { agent: 'a', org: 'y' },
  ],
  workers: 2,
  rules: [[ACCOUNT, SLOTS]],
  limits: [AGENT_ACCOUNT, AGENT_SLOTS],
  upstream: { reduceFactor: 0.5, recoverFactor: 2, recoverEveryMs: 500, canary: true, canaryLeaseMs: 1000 },
  jumpsMs: [120, 1100, 5200],
  runMs: 400,
  retryAfterMs: 300,
}

export const SCOPES: readonly Scope[] = [
  {
    ...BASE,
    name: 'deaths',
    about: 'one death anywhere: of the app, of a worker, of the dispatcher',
    budget: { ...NO_BUDGET, deaths: 1, jumps: 3 },
    quick: 2000,
    full: 100_000,
  },
]

export function scopeOf(name: string): Scope {
  const scope = SCOPES.find((one) => one.name === name)
  if (scope === undefined) throw new Error(`there is no scope ${name}; there are ${SCOPES.map((one) => one.name).join(', ')}`)
  return scope
}
