import type { Health, RuleSpec } from '../../src/index.js'
import { startApp } from './fleet/app.js'
import { Fleet, sleep } from './fleet/fleet.js'
import { startOperator } from './fleet/operator.js'
import { loadProgram } from './fleet/program.js'
import type { AppSpec, FleetSpec, ScriptedRound, WorkerSpec } from './fleet/spec.js'
import { rollWorker, startWorker } from './fleet/worker.js'
import { seconds } from './world/journal.js'
import { Chance } from './world/random.js'
import { EPOCH_MS, RealServer } from './world/server.js'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
/** How often the verdict is asked for. */
const LOOK_MS = 4000
const HEALTHY: readonly Health['reason'][] = ['FLOWING', 'EMPTY', 'OWN_LIMIT']

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

/** What an app enqueues in an hour: single calls, bursts at a shared limit that are over in two seconds, and bursts of a tenant that waits in its own for up to half a minute. */
function anHour(chance: Chance, name: string): ScriptedRound[] {
  const random = chance.stream(`hour of ${name}`)
  const rounds: ScriptedRound[] = []
  const any = () => ({ agent: random.pick(['a', 'b']), org: random.pick(['x', 'y', 'z']), user: random.pick(['u1', 'u2', 'u3', 'u4']) })
  for (let atMs = 2000; atMs < HOUR_MS; atMs += random.exponential(6000)) {
    const kind = random.next()
    if (kind < 0.8)
      rounds.push({
        atMs,
        calls: [
          { ...any(), count: 1 + random.int(2), ms: random.between(20, 2500), tokens: 20 * (1 + random.int(20)), usedPart: random.pick([0.3, 0.8, 1, 1.4]) },
        ],
      })
    else if (kind < 0.9) rounds.push({ atMs, calls: ['x', 'y', 'z'].map((org) => ({ ...any(), org, count: 5, ms: 100 })) })
    else rounds.push({ atMs, calls: [{ ...any(), count: 12, ms: 100 }] })
  }
  return rounds
}

const app = (chance: Chance, name: string): AppSpec => ({
  name,
  queue: 'calls',
  rounds: 0,
  meanPauseMs: 0,
  largestRound: 0,
  attempts: 3,
  script: anHour(chance, name),
})
const worker = (name: string): WorkerSpec => ({ name, queue: 'calls', concurrency: 10, leaseMs: 5000 })

function healthyFleet(seed: number): FleetSpec {
  const chance = new Chance(seed)
  return {
    seed,
    features: ['failures'],
    rules: RULES,
    agents: ['a', 'b'],
    orgs: ['x', 'y', 'z'],
    users: ['u1', 'u2', 'u3', 'u4'],
    queues: ['calls'],
    workers: [worker('worker1'), worker('worker2')],
    apps: [app(chance, 'app1'), app(chance, 'app2')],
    faults: [],
  }
}

interface Looked {
  readonly atMs: number
  readonly health: Health
}

async function watch(fleet: Fleet, looked: Looked[]): Promise<void> {
  const process = fleet.world.process('watch')
  process.start(async () => {
    await fleet.ready()
    const { tollgate } = await fleet.open(process)
    for (;;) {
      looked.push({ atMs: fleet.nowMs, health: await tollgate.health() })
      await sleep(LOOK_MS)
    }
  })
}

async function main(seed: number, minutes: number): Promise<void> {
  const program = await loadProgram(process.cwd())
  const server = await RealServer.start()
  await server.clear()
  server.setClock(EPOCH_MS)
  const fleet = new Fleet(program, healthyFleet(seed), server)
  const { world, spec } = fleet
  startOperator(fleet)
  for (const one of spec.workers) startWorker(fleet, one)
  for (const one of spec.apps) startApp(fleet, one)
  const random = fleet.stream('healthy')
  // Its limits have grown back when an agent refuses calls again.
  for (let nth = 0; nth < 11; nth++) {
    fleet.at((nth + 1) * 5 * MINUTE_MS + random.between(0, MINUTE_MS), 'agent refuses', () => {
      const agent = fleet.agents.get(nth % 2 === 0 ? 'a' : 'b')
      if (agent !== undefined) agent.refusals = { left: 1, untilMs: fleet.nowMs + random.between(50, 400), retryAfterMs: random.pick([500, 1000, 2000]) }
    })
  }
  for (let deploy = 1; deploy < 10; deploy++) {
    for (const [n, { name }] of spec.workers.entries()) {
      fleet.at(deploy * 6 * MINUTE_MS + n * 5000, 'deploy', () => {
        const worker = fleet.workers.findLast((one) => one.spec.name === name || one.spec.name.startsWith(`${name}.`))
        if (worker !== undefined) rollWorker(fleet, worker)
      })
    }
  }
  const looked: Looked[] = []
  await watch(fleet, looked)
  await world.run(EPOCH_MS + minutes * MINUTE_MS)
  for (const process of world.processes) process.kill(false)
  server.stop()
  const counts: Record<string, number> = {}
  for (const { health } of looked) counts[health.reason] = (counts[health.reason] ?? 0) + 1
  for (const { atMs, health } of looked) if (!HEALTHY.includes(health.reason)) console.log(seconds(atMs), JSON.stringify(health))
  for (const error of world.errors) console.log('error', JSON.stringify(error))
  const how: Record<string, number> = {}
  for (const fact of fleet.facts) {
    if (fact.fact === 'result' || fact.fact === 'ended') how[`${fact.fact} ${fact.how}`] = (how[`${fact.fact} ${fact.how}`] ?? 0) + 1
    if (fact.fact === 'answered') how[`answered ${fact.outcome}`] = (how[`answered ${fact.outcome}`] ?? 0) + 1
  }
  console.log(counts, how, 'calls', fleet.calls.size, 'commands', fleet.redis.commands)
}

await main(Number(process.argv[2] ?? 1), Number(process.argv[3] ?? 60))
process.exit()
