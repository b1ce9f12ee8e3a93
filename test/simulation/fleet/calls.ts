import type { Call, Strategy } from '../../../src/index.js'
import type { Door, FactCosts, FactScope, FactScopes } from '../oracles/facts.js'
import type { SimProcess } from '../world/process.js'
import type { Random } from '../world/random.js'
import type { Fleet } from './fleet.js'
import { covers, isSpaced, waitsForRoom } from './limits-of-rules.js'
import type { ScriptedCalls } from './spec.js'

/** A call of the fleet: what it asks for, and what its agent will make of it. */
export interface FleetCall {
  readonly name: string
  readonly door: Door
  readonly by: SimProcess
  readonly queue: string | undefined
  readonly call: Call
  readonly scopes: FactScopes
  readonly costs: FactCosts
  /** How long its agent takes, and which part of the estimate it really uses. */
  readonly ms: number
  readonly usedPart: number
  /** How many of its first runs fail. */
  readonly failures: number
  /** Whether its handler looks at the signal. */
  readonly heedsAbort: boolean
  /** The id of its ticket, where that is another than the name. */
  id: string
  answered: boolean
  ended: boolean
  /** Its agent refuses it always. */
  poisoned: boolean
}

const SHORT_MS = [20, 320] as const
const LONG_MS = [3000, 9000] as const
/** Of the slots in fleets. */
const SLOT_LEASE_MS = 2000
/** A call that queues for a budget of the day waits until tomorrow. */
const OWN_STRATEGIES = (fleet: Fleet) => (fleet.has('budgets') ? (['retry_after'] as const) : (['retry_after', 'queue', 'custom:wait'] as const))

/** Draws a call. */
export function drawCall(fleet: Fleet, random: Random, by: SimProcess, door: Door, queue: string | undefined): FleetCall {
  const { orgs, users, agents } = fleet.spec
  const name = fleet.nextName()
  const scopes: FactScopes = { agent: random.pick(agents), org: random.pick(orgs), user: random.pick(users) }
  const tokens = 20 * (1 + random.int(20))
  const costs: FactCosts = { requests: 1, points: 1, tokens, usd: tokens / 1000 }
  const waits = door === 'queue'
  const priority = waits && fleet.has('priorities') && random.chance(0.2) ? random.pick([-5, 5, 10]) : 0
  const deadline = waits && fleet.has('deadlines') && random.chance(0.2) ? new Date(Date.now() + random.between(300, 6000)) : undefined
  const maxWaitMs = waits && fleet.has('deadlines') && random.chance(0.2) ? Math.ceil(random.between(300, 6000)) : undefined
  const strategy: Strategy | undefined = waits && fleet.has('hard rules') && random.chance(0.05) ? random.pick<Strategy>(OWN_STRATEGIES(fleet)) : undefined
  const long = fleet.has('long calls') && random.chance(0.12)
  // Without the queue nothing renews the lease of a slot: a call that takes longer has lost it.
  const longest = !waits && door !== 'plain job' && fleet.has('slots') ? SLOT_LEASE_MS / 2 : Number.POSITIVE_INFINITY
  const late = fleet.has('late settlements')
  const ownId = waits && fleet.has('own ids') && random.chance(0.5)
  const deduplicationKey = waits && fleet.has('deduplication') && random.chance(0.25) ? `d${random.int(4)}` : undefined
  const call: Call = {
    ...scopes,
    agent: scopes.agent as string,
    cost: { tokens, usd: tokens / 1000 },
    payload: { name },
    ...(priority === 0 ? {} : { priority }),
    ...(deadline === undefined ? {} : { deadline }),
    ...(maxWaitMs === undefined ? {} : { maxWaitMs }),
    ...(strategy === undefined ? {} : { strategy }),
    ...(ownId ? { id: name } : {}),
    ...(deduplicationKey === undefined ? {} : { deduplicationKey }),
  }
  return {
    name,
    door,
    by,
    queue,
    call,
    scopes,
    costs,
    ms: Math.min(longest, long ? random.between(...LONG_MS) : random.between(...SHORT_MS)),
    usedPart: late ? random.pick([0, 0.3, 0.5, 1]) : 1,
    failures: fleet.has('failures') && random.chance(0.1) ? 1 + random.int(2) : 0,
    heedsAbort: random.chance(0.7),
    id: ownId ? name : '',
    answered: false,
    ended: false,
    poisoned: false,
  }
}

/** The calls that a scenario names. */
export function scriptedCalls(fleet: Fleet, random: Random, by: SimProcess, queue: string, given: ScriptedCalls): FleetCall[] {
  return Array.from({ length: given.count }, () => {
    const one = drawCall(fleet, random, by, 'queue', queue)
    const tokens = given.tokens ?? 20
    const scopes: FactScopes = { agent: given.agent ?? 'a', org: given.org ?? 'x', user: given.user ?? 'u1' }
    const cost = { tokens, usd: tokens / 1000 }
    return {
      ...one,
      scopes,
      costs: { requests: 1, points: 1, ...cost },
      ms: given.ms ?? 20,
      usedPart: given.usedPart ?? 1,
      poisoned: given.poisoned ?? false,
      call: { ...one.call, ...scopes, agent: scopes.agent as string, cost, ...(given.priority === undefined ? {} : { priority: given.priority }) },
    }
  })
}

/** Notes that a call is asked for now. */
export function noteAsked(fleet: Fleet, one: FleetCall): void {
  const { name, by, door, queue, scopes, costs, call } = one
  fleet.calls.set(name, one)
  // A deadline is a time by Redis' clock.
  const deadlineMs = call.deadline === undefined ? undefined : new Date(call.deadline).getTime() - fleet.redis.clockSkewMs
  const bounds = fleet.rules.flatMap((rule) => (covers(rule, scopes) && rule.maxWaitMs !== undefined ? [rule.maxWaitMs] : []))
  const maxWaitMs = call.maxWaitMs ?? (bounds.length === 0 ? undefined : Math.min(...bounds))
  fleet.note({
    fact: 'asked',
    atMs: fleet.nowMs,
    call: name,
    by: by.name,
    door,
    ...(queue === undefined ? {} : { queue }),
    scopes,
    costs,
    priority: call.priority ?? 0,
    ...(deadlineMs === undefined ? {} : { deadlineMs }),
    ...(maxWaitMs === undefined ? {} : { maxWaitMs }),
    ...(call.maxWaitMs === undefined ? {} : { ownMaxWaitMs: call.maxWaitMs }),
    ...boundOf(fleet, scopes, call),
    waits: waitsForRoom(fleet.rules, scopes, call.strategy),
    spaced: isSpaced(fleet.rules, scopes, call.strategy),
    ...(call.strategy?.startsWith('custom:') === true ? { asksApp: true } : {}),
  })
}

/** A call that one rule covers stands in a line of that rule, if it waits for room. */
function boundOf({ rules }: Fleet, scopes: FactScopes, { strategy }: Call): { boundedBy?: { line: string; most: number } } {
  const [rule, other] = rules.filter((one) => covers(one, scopes))
  if (rule?.maxWaiting === undefined || other !== undefined || strategy !== undefined) return {}
  const by = [rule.scope].flat().map((scope) => scopes[scope as FactScope] ?? 'all')
  return { boundedBy: { line: `${rule.name} of ${by.join('/')}`, most: rule.maxWaiting } }
}
