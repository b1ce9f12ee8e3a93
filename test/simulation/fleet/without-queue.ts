import type { Call, Grant } from '../../../src/index.js'
import type { FactCosts } from '../oracles/facts.js'
import type { Random } from '../world/random.js'
import { drawCall, type FleetCall, noteAsked } from './calls.js'
import { noteCharged } from './charges.js'
import { type Fleet, LIMITER, type Member, ORG_LIMITER, sleep } from './fleet.js'

const ROUNDS = 16
const MEAN_PAUSE_MS = 500
const LARGEST_ROUND = 6

type Door = 'gate' | 'acquire' | 'limiter'
type Use = (fleet: Fleet, member: Member, random: Random) => Promise<void>

/** A process that uses the gate, or limiters, without the queue, under the same rules as the queue's calls: several calls at once, from time to time. */
export function startWithoutQueue(fleet: Fleet, door: Door, number: number): void {
  const process = fleet.world.process(`${door}-app${number}`)
  const state: Fleet['apps'][number] = { process, finished: false, member: undefined }
  fleet.apps.push(state)
  process.start(async () => {
    await fleet.ready()
    const random = fleet.stream(`app ${door} ${number}`)
    const member = await fleet.open(process, { onStoreError: fleet.has('local in an outage') ? 'local' : 'closed' })
    state.member = member
    const use: Use = { gate: useGate, acquire: useAcquire, limiter: useLimiter }[door]
    const under: Promise<void>[] = []
    for (let round = 0; round < ROUNDS; round++) {
      for (let left = random.chance(0.3) ? LARGEST_ROUND : 1; left > 0; left--) under.push(use(fleet, member, random))
      await sleep(random.exponential(MEAN_PAUSE_MS))
    }
    await Promise.all(under)
    state.finished = true
  })
}

async function useGate(fleet: Fleet, member: Member, random: Random): Promise<void> {
  if (random.chance(0.1)) return record(fleet, member, random)
  const one = drawCall(fleet, random, member.process, 'gate', undefined)
  noteAsked(fleet, one)
  const call = random.chance(0.4) ? { ...one.call, id: one.name } : one.call
  const grant = await member.tollgate.gate.admit(call)
  noteAnswer(fleet, one, grant.allowed ? 'run' : 'refused')
  if (grant.allowed) await useGrant(fleet, member, one, call.id === undefined ? grant : grantElsewhere(fleet, member, call, grant), random)
}

/** A call that was admitted under its id may be settled and released in another process. */
function grantElsewhere(fleet: Fleet, member: Member, call: Call, { decision }: Grant): Pick<Grant, 'decision' | 'settle' | 'release'> {
  const other = fleet.apps.find((app) => app.member !== undefined && app.member !== member && !app.process.dead && app.process.name.startsWith('gate'))?.member
  const { gate } = (other ?? member).tollgate
  return { decision, settle: (usage) => gate.settle(call, usage), release: () => gate.release(call) }
}

/** A call that was made without asking. */
async function record(fleet: Fleet, { process, tollgate }: Member, random: Random): Promise<void> {
  const one = drawCall(fleet, random, process, 'record', undefined)
  noteAsked(fleet, one)
  const { decision } = await tollgate.gate.record(one.call)
  noteAnswer(fleet, one, 'run')
  const run = fleet.nextRun()
  const atMs = fleet.redis.trueMs(decision.atMs)
  fleet.note({ fact: 'charged', atMs, call: one.name, run, unchecked: tollgate.stats.outage().away })
  fleet.note({ fact: 'started', atMs: fleet.nowMs, call: one.name, run, by: process.name, attempt: 1 })
  fleet.note({ fact: 'ended', atMs, call: one.name, run, how: 'done', actual: one.costs, reported: true })
  one.ended = true
}

async function useAcquire(fleet: Fleet, member: Member, random: Random): Promise<void> {
  const one = drawCall(fleet, random, member.process, 'acquire', undefined)
  noteAsked(fleet, one)
  // It may have to wait for a budget of the day: no program waits for ever.
  const signal = timeLimit(random.chance(0.7) ? 10_000 : random.chance(0.5) ? random.between(0.1, 20) : random.between(200, 3000))
  try {
    const grant = await member.tollgate.gate.acquire(one.call, { signal })
    noteAnswer(fleet, one, 'run')
    await useGrant(fleet, member, one, grant, random)
  } catch (error) {
    // Its time limit, or Redis is away.
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (!signal.aborted && !['STORE_UNAVAILABLE', 'COST_TOO_BIG', 'LIMIT_CLOSED'].includes(String(code))) throw error
    noteAnswer(fleet, one, 'refused')
  }
}

function timeLimit(ms: number): AbortSignal {
  const controller = new AbortController()
  globalThis.setTimeout(() => controller.abort(new Error('it took too long')), ms)
  return controller.signal
}

function noteAnswer(fleet: Fleet, one: FleetCall, outcome: 'run' | 'refused'): void {
  one.answered = true
  one.ended = outcome === 'refused'
  fleet.note({ fact: 'answered', atMs: fleet.nowMs, call: one.name, outcome })
}

/** What a program does with a grant: it makes its call, and settles; or it does not, and gives the charge back. */
async function useGrant(
  fleet: Fleet,
  { process, tollgate }: Member,
  one: FleetCall,
  grant: Pick<Grant, 'decision' | 'settle' | 'release'>,
  random: Random,
): Promise<void> {
  const run = fleet.nextRun()
  noteCharged(fleet, process, { call: one.name, run, atMs: grant.decision.atMs, unchecked: tollgate.stats.outage().away })
  fleet.note({ fact: 'started', atMs: fleet.nowMs, call: one.name, run, by: process.name, attempt: 1 })
  const released = fleet.has('late settlements') && random.chance(0.15)
  await sleep(one.ms)
  const actual: FactCosts = released ? {} : { ...one.costs, tokens: (one.costs.tokens ?? 0) * one.usedPart, usd: (one.costs.usd ?? 0) * one.usedPart }
  // The agent is done before Tollgate hears of it.
  const fact = { fact: 'ended', call: one.name, run, how: released ? 'released' : 'done', actual } as const
  const endedAtMs = fleet.nowMs
  const told = await (released ? grant.release() : grant.settle({ tokens: actual.tokens ?? 0, usd: actual.usd ?? 0 })).then(
    () => true,
    () => false,
  )
  fleet.note({ ...fact, atMs: endedAtMs, reported: told })
  one.ended = true
}

/** Limiters by key: one for a user, and one for a user beside one for an org, charged together. */
async function useLimiter(fleet: Fleet, { process, tollgate }: Member, random: Random): Promise<void> {
  const drawn = drawCall(fleet, random, process, 'limiter', undefined)
  const together = random.chance(0.5)
  const [user, org] = [drawn.scopes.user ?? '', drawn.scopes.org ?? '']
  // They are counted by what no rule of a fleet counts by.
  const one: FleetCall = { ...drawn, scopes: together ? { ip: user, endpoint: org } : { ip: user }, costs: { requests: 1 } }
  noteAsked(fleet, one)
  const byUser = tollgate.limiter({ requests: LIMITER.perSecond, per: 'second', burst: LIMITER.burst, name: 'by-user' })
  const byOrg = tollgate.limiter({ requests: ORG_LIMITER, per: 'second', algorithm: 'sliding_window', name: 'by-org' })
  const answer = together ? await tollgate.all([byUser, byOrg]).consume([user, org]) : await byUser.consume(user)
  noteAnswer(fleet, one, answer.allowed ? 'run' : 'refused')
  one.ended = true
  if (!answer.allowed) return
  const run = fleet.nextRun()
  fleet.note({ fact: 'started', atMs: fleet.nowMs, call: one.name, run, by: process.name, attempt: 1 })
  fleet.note({ fact: 'ended', atMs: fleet.nowMs, call: one.name, run, how: 'done', actual: one.costs, reported: true })
}
