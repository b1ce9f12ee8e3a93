import type { Usage } from '../../../src/index.js'
import type { Bounds, Fact, FactScope, Report } from '../oracles/facts.js'
import { judge } from '../oracles/judge.js'
import { real } from '../world/real-node.js'
import { EPOCH_MS, type RealServer } from '../world/server.js'
import { startApp } from './app.js'
import { armFaults, lastFaultMs } from './faults.js'
import { Fleet, type FleetOptions, NAMESPACE } from './fleet.js'
import { startOperator } from './operator.js'
import { startPlainProducer } from './plain-jobs.js'
import type { Program } from './program.js'
import type { FleetSpec } from './spec.js'
import { startWithoutQueue } from './without-queue.js'
import { rollWorker, startWorker } from './worker.js'

/** The work may take so long before it counts as stuck. */
const LONGEST_WORK_MS = 300_000
/** Apps have asked for their calls by then, at the earliest. */
const LOAD_MS = 8000

export interface SimulatedFleet {
  readonly spec: FleetSpec
  readonly facts: readonly Fact[]
  readonly reports: readonly Report[]
  readonly hash: string
  readonly fleet: Fleet
  readonly commands: number
  readonly runs: number
  readonly virtualMs: number
  readonly wallMs: number
}

export function boundsOf(spec: FleetSpec): Bounds {
  const leaseMs = Math.max(...spec.workers.map((worker) => worker.leaseMs), 2000)
  return { stepMs: 100, lateMs: 500, lateSickMs: 2000, lostShare: 0.1, lostShareSick: 0.15, etaMs: 500, changeMs: 1500, leaseMs }
}

/** Runs a fleet from its first call until all its work has ended and all bounds have passed, and judges what happened. */
export async function runFleet(program: Program, server: RealServer, spec: FleetSpec, options: FleetOptions = {}): Promise<SimulatedFleet> {
  const startedMs = real.elapsedMs()
  await server.clear()
  server.setClock(EPOCH_MS)
  const fleet = new Fleet(program, spec, server, options)
  const { world } = fleet
  startFleet(fleet)
  armFaults(fleet)
  const lastMs = Math.max(EPOCH_MS + LOAD_MS, lastFaultMs(fleet))
  await world.run(lastMs)
  await world.run(EPOCH_MS + LONGEST_WORK_MS, () => !isBusy(fleet))
  // Whatever a dead process held comes back within two leases; a call whose app died may still run.
  await world.run(world.nowMs + 2 * boundsOf(spec).leaseMs + 20_000)
  await noteEnd(fleet)
  for (const process of world.processes) process.kill(false)
  for (const { atMs, process, text } of world.errors) fleet.note({ fact: 'error', atMs, process, text })
  const reports = judge(fleet.facts, boundsOf(spec))
  const runs = fleet.facts.filter(({ fact }) => fact === 'started').length
  return {
    spec,
    facts: fleet.facts,
    reports,
    hash: world.journal.digest(),
    fleet,
    commands: fleet.redis.commands,
    runs,
    virtualMs: world.nowMs - EPOCH_MS,
    wallMs: real.elapsedMs() - startedMs,
  }
}

function startFleet(fleet: Fleet): void {
  const { spec } = fleet
  startOperator(fleet)
  for (const worker of spec.workers) {
    const without = spec.faults.find(({ kind, queue }) => kind === 'workerless queue' && queue === worker.queue)
    startWorker(fleet, worker, without?.forMs)
  }
  for (const { kind, queue = '', forMs = 0 } of spec.faults) {
    if (kind === 'workerless queue') fleet.fault(kind, `queue ${queue} has no workers for ${forMs.toFixed(0)} ms`, { queue, untilMs: EPOCH_MS + forMs })
  }
  for (const app of spec.apps) startApp(fleet, app)
  if (fleet.has('plain jobs')) startPlainProducer(fleet)
  for (const door of ['gate', 'acquire', 'limiter'] as const) {
    if (!fleet.has(door)) continue
    startWithoutQueue(fleet, door, 1)
    startWithoutQueue(fleet, door, 2)
  }
  if (!fleet.has('rolling deploys')) return
  for (const [index, { name }] of spec.workers.entries()) {
    fleet.at(3000 + 1500 * index, 'deploy', () => {
      const worker = fleet.workers.findLast((one) => one.spec.name === name || one.spec.name.startsWith(`${name}.`))
      if (worker !== undefined) rollWorker(fleet, worker)
    })
  }
}

function isBusy(fleet: Fleet): boolean {
  if (fleet.apps.some(({ process, finished }) => !process.dead && !finished)) return true
  for (const one of fleet.calls.values()) if (!one.ended && !one.by.dead) return true
  return false
}

const KEYS = `
  local out, keys = {}, redis.call('KEYS', '*')
  table.sort(keys)
  for _, key in ipairs(keys) do
    out[#out + 1], out[#out + 2], out[#out + 3] = key, redis.call('TYPE', key).ok, tostring(redis.call('PTTL', key))
  end
  return out`

/** Notes what is left when all is over. */
async function noteEnd(fleet: Fleet): Promise<void> {
  const { world, redis, operator } = fleet
  redis.server.setClock(redis.clockMs)
  const left = (await redis.server.ask(['EVAL', KEYS, 0])) as string[]
  for (let at = 0; at < left.length; at += 3) {
    const [key, type, ttl] = left.slice(at, at + 3) as [string, string, string]
    // Each key that the simulation itself made would be a mistake of the simulation.
    fleet.note({ fact: 'key left', atMs: world.nowMs, key: key.replace(`{tollgate:${NAMESPACE}}`, ''), type, ttlMs: Number(ttl) < 0 ? null : Number(ttl) })
  }
  if (operator === undefined) return
  let asked = false
  fleet.inProcess(operator.process, 'the end', async () => {
    const { stats, gate } = operator.tollgate
    const { open, settled, released, expired } = await stats.ledger()
    fleet.note({ fact: 'ledger', atMs: world.nowMs, open, settled, released, expired })
    const seen = new Map<string, Usage>()
    const combinations = fleet.keysOf(['agent', 'org', 'user']).map((key) => key.split('/') as [string, string, string])
    for (const [agent, org, user] of combinations) {
      for (const degraded of [false, true]) {
        const { usage } = await gate.peek({ agent, org, user, cost: { tokens: 0, usd: 0 }, degraded })
        for (const one of usage) seen.set(`${one.rule}/${one.limit} ${one.scopeValue}`, one)
      }
    }
    for (const { rule, limit, scopeValue, used, claimed } of seen.values()) {
      fleet.note({ fact: 'usage', atMs: world.nowMs, limit: `${rule}/${limit}`, key: scopeValue, used, claimed })
    }
    asked = true
  })
  await world.run(world.nowMs + 10_000, () => asked)
}

/** The fields of a call that the fleets' rules count by. */
export type FleetScope = Extract<FactScope, 'agent' | 'org' | 'user'>
