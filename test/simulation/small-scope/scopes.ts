import type { RuleSpec } from '../../../src/policy/rule.js'
import { BUDGETS, type Budget } from './model.js'
import { type RateLimit, type Scope, SLOT_LEASE_MS, type SlotLimit } from './scope.js'

/** How late a call may start beside a participant that is, or was, sick: invariant 12, and the steps from its line to its start. */
const LATE_BESIDE_SICK_MS = 2100

const ACCOUNT: RuleSpec = { name: 'account', scope: 'agent', limits: [{ requests: 2, per: 'second', burst: 1 }] }
const SLOTS: RuleSpec = { name: 'slots', scope: 'org', limits: [{ concurrency: 1, lease: '2s' }] }
const AGENT_ACCOUNT: RateLimit = { name: 'account', by: ['agent'], unit: 'requests', form: { kind: 'bucket', perSecond: 2, burst: 1 } }
const AGENT_SLOTS: SlotLimit = { name: 'slots', by: ['org'], form: { kind: 'slots', slots: 1, leaseMs: SLOT_LEASE_MS } }

const WIDE_ACCOUNT: RuleSpec = { name: 'account', scope: 'agent', limits: [{ requests: 2, per: 'second', burst: 2 }] }
const AGENT_WIDE_ACCOUNT: RateLimit = { ...AGENT_ACCOUNT, form: { kind: 'bucket', perSecond: 2, burst: 2 } }

const NO_BUDGET = Object.fromEntries(BUDGETS.map((name) => [name, 0])) as Budget

const BASE: Omit<Scope, 'name' | 'about' | 'budget' | 'quick' | 'full'> = {
  calls: [
    { agent: 'a', org: 'x' },
    { agent: 'a', org: 'x' },
    { agent: 'a', org: 'y' },
  ],
  apps: 1,
  workers: 2,
  batches: false,
  lateCopies: true,
  rules: [[ACCOUNT, SLOTS]],
  rates: [AGENT_ACCOUNT],
  slots: [AGENT_SLOTS],
  upstream: { reduceFactor: 0.5, recoverFactor: 2, recoverEveryMs: 500, canary: true, canaryLeaseMs: 1000 },
  jumpsMs: [120, 1100, 5200],
  runMs: 400,
  lateMs: LATE_BESIDE_SICK_MS,
  retryAfterMs: 300,
  mortal: ['app', 'worker', 'dispatcher'],
}

const TOKENS: RuleSpec = { name: 'tokens', scope: 'agent', limits: [{ tokens: 10, per: 'second', burst: 10 }] }
const SPEND: RuleSpec = { name: 'spend', scope: 'org', limits: [{ tokens: 100, per: 'hour', algorithm: 'fixed_window' }] }

const TWO_CALLS = BASE.calls.slice(0, 2)

export const SCOPES: readonly Scope[] = [
  {
    ...BASE,
    name: 'nothing fails',
    about: 'only that any process may be slow',
    budget: { ...NO_BUDGET, jumps: 2 },
    jumpsMs: [460],
    lateMs: 300,
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'deaths',
    about: 'one death anywhere: of the app, of a worker, of the dispatcher',
    budget: { ...NO_BUDGET, deaths: 1, jumps: 2 },
    jumpsMs: [1100],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'app dies',
    about: 'one of two apps dies between the answer of the front door and the job of a call',
    calls: TWO_CALLS,
    apps: 2,
    budget: { ...NO_BUDGET, deaths: 1, jumps: 2 },
    mortal: ['app'],
    jumpsMs: [600],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'batches',
    about: 'starts and ends of one process travel together, and share a ledger; the reply to one script call is lost',
    batches: true,
    lateCopies: false,
    rules: [[WIDE_ACCOUNT, SLOTS]],
    rates: [AGENT_WIDE_ACCOUNT],
    budget: { ...NO_BUDGET, repeats: 1, jumps: 1 },
    jumpsMs: [1100],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'repeats',
    about: 'one script call is sent twice: its reply was lost, or a copy of it arrives later',
    calls: TWO_CALLS,
    budget: { ...NO_BUDGET, repeats: 1, jumps: 2 },
    jumpsMs: [1100],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'stale worker',
    about: 'a worker stands still for longer than its leases, its job is given to another, and it goes on',
    calls: TWO_CALLS,
    budget: { ...NO_BUDGET, stops: 1, jumps: 2 },
    jumpsMs: [1100],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'stale refusal',
    about: 'the same, and an agent refuses a call, perhaps that of the worker that stood still',
    calls: TWO_CALLS,
    budget: { ...NO_BUDGET, stops: 1, refusals: 1, jumps: 1 },
    jumpsMs: [1100],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: '429',
    about: 'an agent refuses a call: block, probe, recovery',
    budget: { ...NO_BUDGET, refusals: 1, jumps: 2 },
    jumpsMs: [600],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'cancel',
    about: 'a call is cancelled wherever it is',
    calls: TWO_CALLS,
    budget: { ...NO_BUDGET, cancels: 1, jumps: 2 },
    jumpsMs: [1100],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'removed job',
    about: 'the job of a call that waits is removed with means of BullMQ',
    budget: { ...NO_BUDGET, removals: 1, jumps: 2 },
    jumpsMs: [1100],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'rule change',
    about: 'a rule goes between the promise of its room and the start, and each process learns of it at its own time',
    calls: TWO_CALLS,
    rules: [[ACCOUNT, SLOTS], [ACCOUNT]],
    slots: [],
    budget: { ...NO_BUDGET, ruleChanges: 1, jumps: 1 },
    jumpsMs: [1100],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'priority',
    about: 'a call of a higher priority comes behind others',
    calls: [
      { agent: 'a', org: 'x' },
      { agent: 'a', org: 'x' },
      { agent: 'a', org: 'x', priority: 10 },
    ],
    budget: { ...NO_BUDGET, jumps: 2 },
    jumpsMs: [600],
    lateMs: 300,
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'deadlines',
    about: 'calls that wait for a second at most',
    calls: [
      { agent: 'a', org: 'x' },
      { agent: 'a', org: 'x', maxWaitMs: 1000 },
      { agent: 'a', org: 'x', maxWaitMs: 1000 },
    ],
    budget: { ...NO_BUDGET, jumps: 2 },
    jumpsMs: [460, 1100],
    quick: 1200,
    full: 400_000,
  },
  {
    ...BASE,
    name: 'settle below estimate',
    about: 'a call costs less than its estimate, and its end comes late',
    batches: true,
    calls: [6, 6, 6].map((tokens) => ({ agent: 'a', org: 'x', cost: { tokens } })),
    actual: [{ tokens: 1 }, {}, {}],
    rules: [[TOKENS, SPEND]],
    rates: [
      { name: 'tokens', by: ['agent'], unit: 'tokens', form: { kind: 'bucket', perSecond: 10, burst: 10 } },
      { name: 'spend', by: ['org'], unit: 'tokens', form: { kind: 'fixed window', limit: 100, windowMs: 3_600_000 } },
    ],
    slots: [],
    budget: { ...NO_BUDGET, jumps: 2 },
    jumpsMs: [1100],
    quick: 1200,
    full: 400_000,
  },
]

export function scopeOf(name: string): Scope {
  const scope = SCOPES.find((one) => one.name === name)
  if (scope === undefined) throw new Error(`there is no scope ${name}; there are ${SCOPES.map((one) => one.name).join(', ')}`)
  return scope
}
