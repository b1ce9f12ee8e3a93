import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Health, RuleSpec, Tollgate } from '../../src/index.js'
import { startApp } from './fleet/app.js'
import { Fleet, sleep } from './fleet/fleet.js'
import { startOperator } from './fleet/operator.js'
import type { Program } from './fleet/program.js'
import type { AppSpec, FleetSpec, ScriptedRound, WorkerSpec } from './fleet/spec.js'
import { rollWorker, startWorker } from './fleet/worker.js'
import { Chance } from './world/random.js'
import { EPOCH_MS, type RealServer } from './world/server.js'

const MINUTE_MS = 60_000
/** How often the verdict is asked for. */
const LOOK_MS = 4000
/** When all workers are replaced, one after the other, and when an agent refuses calls: its limits have grown back until it does again. */
const DEPLOY_EVERY_MS = 6 * MINUTE_MS
const REFUSE_EVERY_MS = 5 * MINUTE_MS
/** A call each so many ms, in the mean, and bursts. */
const PAUSE_MS = 4000

const AGENTS = ['a', 'b'] as const
const ORGS = ['x', 'y', 'z'] as const
const USERS = ['u1', 'u2', 'u3', 'u4'] as const
const RULES: readonly RuleSpec[] = [
  {
    name: 'account',
    scope: 'agent',
    limits: [
      { requests: 20, per: 'second', burst: 10 },
      { tokens: 60_000, per: 'minute', burst: 20_000 },
    ],
  },
  { name: 'slots', scope: 'agent', limits: [{ concurrency: 12, lease: '5s' }] },
  { name: 'org', scope: 'org', limits: [{ requests: 60, per: 'minute', burst: 5 }] },
  { name: 'user', scope: ['org', 'user'], limits: [{ concurrency: 2, lease: '5s' }] },
  { name: 'budget', scope: 'org', limits: [{ usd: 10_000, per: 'day', algorithm: 'fixed_window' }] },
]

/** Single calls, bursts at a shared limit that are over in two seconds, and bursts of a tenant that waits at its own for up to half a minute. */
function rounds(chance: Chance, forMs: number): ScriptedRound[] {
  const random = chance.stream('healthy calls')
  const made: ScriptedRound[] = []
  const any = () => ({ agent: random.pick(AGENTS), org: random.pick(ORGS), user: random.pick(USERS) })
  for (let atMs = 2000; atMs < forMs; atMs += random.exponential(PAUSE_MS)) {
    const kind = random.next()
    const one = { count: 1 + random.int(2), ms: random.between(20, 2500), tokens: 20 * (1 + random.int(20)), usedPart: random.pick([0.3, 0.8, 1, 1.4]) }
    if (kind < 0.8) made.push({ atMs, calls: [{ ...any(), ...one }] })
    else if (kind < 0.9) made.push({ atMs, calls: ORGS.map((org) => ({ ...any(), org, count: 5, ms: 100 })) })
    else made.push({ atMs, calls: [{ ...any(), count: 12, ms: 100 }] })
  }
  return made
}

function healthyFleet(seed: number, forMs: number): FleetSpec {
  const script = rounds(new Chance(seed), forMs)
  const app: AppSpec = { name: 'app', queue: 'calls', rounds: 0, meanPauseMs: 0, largestRound: 0, attempts: 3, script }
  const workers = ['worker1', 'worker2'].map((name): WorkerSpec => ({ name, queue: 'calls', concurrency: 10, leaseMs: 5000 }))
  const names = { agents: [...AGENTS], orgs: [...ORGS], users: [...USERS], queues: ['calls'] }
  return { seed, features: ['failures'], rules: RULES, ...names, workers, apps: [app], faults: [] }
}

/** One look at a fleet in which nothing is wrong. */
export interface HealthyLook {
  readonly atMs: number
  readonly health: Health
  /** What the verdict was made of: for the trace that is checked in. */
  readonly facts: unknown
}

export interface HealthyRun {
  readonly looks: readonly HealthyLook[]
  readonly calls: number
  readonly done: number
  readonly refusals: number
  readonly workers: number
  readonly errors: readonly string[]
}

/** Whether a verdict says that work flows. */
export function isCalm({ reason }: Health): boolean {
  return reason === 'FLOWING' || reason === 'EMPTY' || reason === 'OWN_LIMIT'
}

/** Reads the facts of the verdict as `health()` does. */
async function factsReader(root: string): Promise<(tollgate: Tollgate) => Promise<unknown>> {
  const { readFacts } = (await import(
    pathToFileURL(path.resolve(root, 'dist/src/health/read-facts.js')).href
  )) as typeof import('../../src/health/read-facts.js')
  return (tollgate) => {
    const { parts, queue } = tollgate as unknown as { parts: Parameters<typeof readFacts>[0] & { resolver: { rules: never } }; queue: string }
    return readFacts({ redis: parts.redis, keys: parts.keys, series: parts.series, queue, rules: parts.resolver.rules })
  }
}

/**
 * A fleet in which nothing is wrong, for so many minutes of the virtual clock: calls within their limits and in bursts, that fail now and then, agents
 * that refuse for a moment, and deploys. The verdict on it is asked for every few seconds.
 */
export async function runHealthy(
  program: Program,
  root: string,
  server: RealServer,
  { seed, minutes }: { seed: number; minutes: number },
): Promise<HealthyRun> {
  await server.clear()
  server.setClock(EPOCH_MS)
  const forMs = minutes * MINUTE_MS
  const fleet = new Fleet(program, healthyFleet(seed, forMs), server)
  startOperator(fleet)
  for (const one of fleet.spec.workers) startWorker(fleet, one)
  for (const one of fleet.spec.apps) startApp(fleet, one)
  const random = fleet.stream('healthy')
  for (let nth = 0; nth * REFUSE_EVERY_MS < forMs; nth++) {
    fleet.at(nth * REFUSE_EVERY_MS + random.between(0.5, 1) * MINUTE_MS, 'agent refuses', () => {
      const agent = fleet.agents.get(AGENTS[nth % 2] as string)
      if (agent !== undefined) agent.refusals = { left: 1, untilMs: fleet.nowMs + random.between(50, 400), retryAfterMs: random.pick([500, 1000, 2000]) }
    })
  }
  for (let atMs = 1.5 * MINUTE_MS; atMs < forMs; atMs += DEPLOY_EVERY_MS) {
    for (const [n, { name }] of fleet.spec.workers.entries()) {
      fleet.at(atMs + n * 5000, 'deploy', () => {
        const worker = fleet.workers.findLast((one) => one.spec.name === name || one.spec.name.startsWith(`${name}.`))
        if (worker !== undefined) rollWorker(fleet, worker)
      })
    }
  }
  const looks: HealthyLook[] = []
  const read = await factsReader(root)
  const watch = fleet.world.process('watch')
  watch.start(async () => {
    await fleet.ready()
    const { tollgate } = await fleet.open(watch)
    for (;;) {
      looks.push({ atMs: fleet.nowMs, health: await tollgate.health(), facts: await read(tollgate) })
      await sleep(LOOK_MS)
    }
  })
  await fleet.world.run(EPOCH_MS + forMs)
  for (const process of fleet.world.processes) process.kill(false)
  const ended = fleet.facts.filter((fact) => fact.fact === 'ended')
  return {
    looks,
    calls: fleet.calls.size,
    done: ended.filter(({ how }) => how === 'done').length,
    refusals: ended.filter(({ how }) => how === 'sent back').length,
    workers: fleet.workers.length,
    errors: fleet.world.errors.map(({ text }) => text),
  }
}
