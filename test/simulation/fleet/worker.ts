import type { SimProcess } from '../world/process.js'
import { agentOf } from './agent.js'
import { type Fleet, sleep, type WorkerProcess } from './fleet.js'
import type { WorkerSpec } from './spec.js'

/** How long a worker that was killed is missed, before its supervisor starts another in its place. */
const RESTART_MS = [200, 4000] as const

/** A worker process, and after its death another. */
export function startWorker(fleet: Fleet, spec: WorkerSpec, startsAtMs = 0): void {
  if (startsAtMs > 0) {
    fleet.at(startsAtMs, `${spec.name} comes`, () => startWorker(fleet, spec))
    return
  }
  const process = fleet.world.process(spec.name)
  const worker: WorkerProcess = { spec, process, up: false, member: undefined }
  fleet.workers.push(worker)
  const open = async () => {
    await fleet.ready()
    const member = await fleet.open(process, { queue: spec.queue })
    worker.member = member
    member.tollgate.worker(agentOf(fleet, process), { concurrency: spec.concurrency, leaseMs: spec.leaseMs })
    worker.up = true
    noteState(fleet, worker, 'up')
  }
  process.start(async () => {
    for (;;) {
      try {
        return await open()
      } catch (error) {
        // Redis is away; a supervisor would start it again.
        if (!(error instanceof Error) || !('code' in error) || error.code !== 'REDIS_UNAVAILABLE') throw error
        await sleep(500)
      }
    }
  })
}

function noteState(fleet: Fleet, { spec, process }: WorkerProcess, state: 'up' | 'gone'): void {
  fleet.note({ fact: 'worker', atMs: fleet.nowMs, process: process.name, queue: spec.queue, state, places: spec.concurrency })
}

/** A worker was killed: another one takes its place after a while. */
export function replaceWorker(fleet: Fleet, worker: WorkerProcess): void {
  if (worker.up) noteState(fleet, worker, 'gone')
  worker.up = false
  const random = fleet.stream(`restart of ${worker.process.name}`)
  fleet.world.at(fleet.nowMs + random.between(...RESTART_MS), null, 'restart', () => startWorker(fleet, nextOf(worker.spec)))
}

/** A rolling deploy: the worker finishes what runs and closes; the next one has started before. */
export function rollWorker(fleet: Fleet, worker: WorkerProcess): void {
  const { member, process } = worker
  if (member === undefined || !process.running || !worker.up) return
  startWorker(fleet, nextOf(worker.spec))
  fleet.inProcess(process, 'deploy', async () => {
    fleet.world.note(process.name, 'is told to end (SIGTERM)')
    noteState(fleet, worker, 'gone')
    worker.up = false
    await member.tollgate.close()
    fleet.world.note(process.name, 'has closed')
    // It does not wait for its calls while Redis is away.
    if (hasOpenRuns(fleet, process))
      fleet.fault('death', `${process.name} ends while its calls run`, { process: process.name, untilMs: Number.POSITIVE_INFINITY })
    process.exit()
  })
}

function hasOpenRuns({ facts }: Fleet, { name }: SimProcess): boolean {
  const ended = new Set(facts.flatMap((fact) => (fact.fact === 'ended' ? [fact.run] : [])))
  return facts.some((fact) => fact.fact === 'started' && fact.by === name && !ended.has(fact.run))
}

function nextOf(spec: WorkerSpec): WorkerSpec {
  const [, name, generation = '1'] = /^(.*?)(?:\.(\d+))?$/.exec(spec.name) ?? []
  return { ...spec, name: `${name}.${Number(generation) + 1}` }
}
