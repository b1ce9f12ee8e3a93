import type { LimitSpec, RuleSpec, Strategy } from '../../../src/index.js'
import type { FaultKind } from '../oracles/facts.js'
import { FAULTS } from '../oracles/facts.js'
import { Chance, type Random } from '../world/random.js'
import { drawFaults, type PlannedFault } from './planned-faults.js'

/** What a fleet does besides waiting for one rate: each seed switches them on and off, so that some seeds have few of them and others many. */
export const FEATURES = [
  'slots',
  'tokens',
  'windows',
  'fixed window of tokens',
  'sliding log',
  'users',
  'tenant rule',
  'budgets',
  'hard rules',
  'graceful rules',
  'throttle',
  'bounded lines',
  'long calls',
  'late settlements',
  'parts',
  'failures',
  'priorities',
  'deadlines',
  'own ids',
  'deduplication',
  'several queues',
  'plain jobs',
  'gate',
  'acquire',
  'limiter',
  'local in an outage',
  'crossing',
  'few places',
  'rolling deploys',
  'explain',
] as const
export type Feature = (typeof FEATURES)[number]

export interface WorkerSpec {
  readonly name: string
  readonly queue: string
  readonly concurrency: number
  readonly leaseMs: number
}

/** Calls of a scenario; what is left out is drawn as for any call, but without chance where it matters: one agent, a short run, all of the estimate used. */
export interface ScriptedCalls {
  readonly count: number
  readonly agent?: string
  readonly org?: string
  readonly user?: string
  readonly tokens?: number
  readonly ms?: number
  readonly usedPart?: number
  readonly priority?: number
  /** Its agent refuses it always. */
  readonly poisoned?: boolean
}

/** What an app of a scenario enqueues together, at a time since the beginning. */
export interface ScriptedRound {
  readonly atMs: number
  readonly calls: readonly ScriptedCalls[]
}

/** An app that enqueues: in drawn rounds, or by the script of a scenario. */
export interface AppSpec {
  readonly name: string
  readonly queue: string
  readonly rounds: number
  readonly meanPauseMs: number
  readonly largestRound: number
  /** Attempts of its calls. */
  readonly attempts: number
  readonly script?: readonly ScriptedRound[]
}

/** A whole fleet, as data: the same spec is the same fleet. */
export interface FleetSpec {
  readonly seed: number
  readonly features: readonly Feature[]
  readonly rules: readonly RuleSpec[]
  readonly agents: readonly string[]
  readonly orgs: readonly string[]
  readonly users: readonly string[]
  readonly queues: readonly string[]
  readonly workers: readonly WorkerSpec[]
  readonly apps: readonly AppSpec[]
  readonly faults: readonly PlannedFault[]
}

const ORGS = ['x', 'y', 'z'] as const
const USERS = ['u1', 'u2', 'u3', 'u4'] as const

type WindowAlgorithm = NonNullable<LimitSpec['algorithm']>
const WINDOWS: readonly WindowAlgorithm[] = ['fixed_window', 'sliding_window', 'sliding_log', 'leaky_bucket', 'token_bucket']

function drawRules(random: Random, has: (feature: Feature) => boolean): RuleSpec[] {
  const rules: RuleSpec[] = []
  const bounded: Partial<RuleSpec> = has('bounded lines') ? { maxWaiting: 15 + random.int(30), maxWaitMs: 3000 + random.int(6000) } : {}
  const perSecond = random.pick([10, 20, 40])
  const account: LimitSpec[] = [{ requests: perSecond, per: 'second', burst: random.pick([1, 5, 10]) }]
  if (has('tokens')) {
    const tokens: LimitSpec = random.chance(0.6)
      ? { tokens: 200 * perSecond, per: 'second', burst: random.pick([1000, 4000]) }
      : { tokens: 400 * perSecond, per: '2s', algorithm: random.pick(WINDOWS.slice(0, 3)) }
    if (has('fixed window of tokens'))
      rules.push({ name: 'window-of-tokens', scope: 'agent', limits: [{ tokens: 120 * perSecond, per: '2s', algorithm: 'fixed_window' }] })
    if (random.chance(0.5)) account.push(tokens)
    else rules.push({ name: 'tokens', scope: 'agent', limits: [tokens] })
  }
  rules.push({ name: 'account', scope: 'agent', limits: account, ...bounded })
  if (has('slots')) rules.push({ name: 'slots', scope: random.pick(['org', 'agent']), limits: [{ concurrency: 2 + random.int(3), lease: '2s' }] })
  if (has('windows')) {
    const limit: LimitSpec = { requests: random.pick([10, 16]), per: '2s', algorithm: random.pick(WINDOWS) }
    rules.push({ name: 'window', scope: 'org', limits: [limit, { points: 400, per: 'day', algorithm: 'fixed_window' }] })
  }
  if (has('sliding log')) rules.push({ name: 'log', scope: 'org', limits: [{ requests: 10, per: '2s', algorithm: 'sliding_log' }] })
  if (has('users')) {
    const strategy: Strategy = has('hard rules') ? random.pick(['retry_after', 'hard'] as const) : 'queue'
    rules.push({
      name: 'user',
      scope: ['org', 'user'],
      strategy,
      limits: [
        { requests: 10, per: '5s' },
        { requests: 3, per: 'second', burst: 4 },
      ],
    })
  }
  // Two limits that bind one after the other, across each other.
  if (has('crossing')) {
    for (const scope of ['org', 'user']) rules.push({ name: `${scope}-rate`, scope, limits: [{ requests: 4, per: 'second', burst: random.pick([1, 4]) }] })
  }
  if (has('tenant rule')) rules.push({ name: 'tenant', scope: 'agent', match: { orgs: ['x'] }, limits: [{ requests: 5, per: 'second', burst: 5 }] })
  if (has('graceful rules')) {
    const degraded: LimitSpec[] = [{ requests: 4, per: 'second', burst: 4 }]
    rules.push({ name: 'graceful', scope: 'user', strategy: 'graceful', limits: [{ requests: 2, per: 'second', burst: 3 }], degraded })
  }
  if (has('throttle'))
    rules.push({ name: 'throttle', scope: 'org', strategy: 'throttle', maxDelayMs: 3000, limits: [{ requests: 6, per: 'second', burst: 2 }] })
  // Far from being used up, and longer than the run: what was charged can be added up at the end.
  if (has('budgets')) {
    const budget = (unit: 'usd' | 'tokens', amount: number): LimitSpec => ({ [unit]: amount, per: 'day', algorithm: 'fixed_window' })
    rules.push({ name: 'budget', scope: 'org', limits: [budget('usd', 10_000), budget('tokens', 1e9)] })
    if (has('hard rules')) rules.push({ name: 'cap', scope: ['org', 'agent'], strategy: 'hard', limits: [budget('usd', 3 + random.int(8))] })
  }
  return rules
}

function drawWorkers(random: Random, queues: readonly string[], few: boolean): WorkerSpec[] {
  const leaseMs = random.pick([2000, 5000, 10_000])
  const places = few ? 1 + random.int(3) : random.pick([10, 20, 50])
  const count = queues.length === 1 ? 3 : 2
  return queues.flatMap((queue) => Array.from({ length: count }, (_, index) => ({ name: `${queue}-worker${index + 1}`, queue, concurrency: places, leaseMs })))
}

function drawApps(random: Random, queues: readonly string[], attempts: number): AppSpec[] {
  return queues.flatMap((queue, at) =>
    Array.from({ length: queues.length === 1 ? 2 : at === 0 ? 2 : 1 }, (_, index) => ({
      name: `${queue}-app${index + 1}`,
      queue,
      rounds: 3 + random.int(3),
      meanPauseMs: random.pick([500, 1500]),
      largestRound: random.pick([8, 15, 40]),
      attempts,
    })),
  )
}

/** Which faults, and which features, a run may have. */
export interface Allowed {
  readonly faults: readonly FaultKind[]
  readonly features: readonly Feature[]
  /** Those that every run has. */
  readonly has?: readonly (FaultKind | Feature)[]
}
export const EVERYTHING: Allowed = { faults: FAULTS, features: FEATURES }

/** Draws the fleet of a seed. Each of the allowed faults and features is on with a probability of its own. */
export function drawFleet(seed: number, allowed: Allowed = EVERYTHING): FleetSpec {
  const chance = new Chance(seed)
  const random = chance.stream('fleet')
  const share = random.pick([0.15, 0.35, 0.6])
  const must = (name: FaultKind | Feature) => allowed.has?.includes(name) === true
  // Each feature has a stream of its own: switching one off leaves the others as they are.
  const features = FEATURES.filter((feature) => must(feature) || (chance.stream(`feature ${feature}`).chance(share) && allowed.features.includes(feature)))
  const has = (feature: Feature) => features.includes(feature)
  const queues = has('several queues') ? ['calls', 'batch'] : ['calls']
  const rules = drawRules(chance.stream('rules'), has)
  const workers = drawWorkers(chance.stream('workers'), queues, has('few places'))
  const apps = drawApps(chance.stream('apps'), queues, has('failures') ? 2 : 1)
  const faulty = chance.stream('kinds of faults')
  const faultShare = faulty.pick([0.1, 0.2, 0.4])
  const kinds = FAULTS.filter((kind) => must(kind) || (chance.stream(`fault ${kind}`).chance(faultShare) && allowed.faults.includes(kind)))
  const bare = { seed, features, rules, agents: ['a', 'b'], orgs: [...ORGS], users: [...USERS], queues, workers, apps }
  return { ...bare, faults: kinds.flatMap((kind) => drawFaults(kind, chance.stream(`faults ${kind}`), bare)) }
}
