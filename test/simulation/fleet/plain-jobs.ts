import type { SimProcess } from '../world/process.js'
import { ended, howFailed } from './app.js'
import { drawCall, type FleetCall, noteAsked } from './calls.js'
import { type Fleet, NAMESPACE, sleep } from './fleet.js'

const ROUNDS = 4
const MEAN_PAUSE_MS = 1500
const LARGEST_ROUND = 15

/** A BullMQ producer that knows nothing of Tollgate: its jobs meet the gate in the worker. */
export function startPlainProducer(fleet: Fleet): void {
  const process = fleet.world.process('plain-app')
  const state: Fleet['apps'][number] = { process, finished: false, member: undefined }
  fleet.apps.push(state)
  process.start(async () => {
    await fleet.ready()
    const random = fleet.stream('app plain')
    const name = random.pick(fleet.spec.queues)
    const queue = plainQueue(fleet, process, name)
    const polls: Promise<void>[] = []
    for (let round = 0; round < ROUNDS; round++) {
      await sleep(random.exponential(MEAN_PAUSE_MS))
      const calls = Array.from({ length: 1 + random.int(LARGEST_ROUND) }, () => drawCall(fleet, random, process, 'plain job', name))
      for (const one of calls) noteAsked(fleet, one)
      const jobs = await persistently(() => queue.addBulk(calls.map(({ call }) => ({ name: call.agent, data: call }))))
      for (const [index, job] of jobs.entries()) added(fleet, calls[index] as FleetCall, job.id ?? '')
      polls.push(poll(fleet, queue, calls))
    }
    await Promise.all(polls)
    state.finished = true
  })
}

function added(fleet: Fleet, one: FleetCall, id: string): void {
  one.id = id
  one.answered = true
  fleet.note({ fact: 'answered', atMs: fleet.nowMs, call: one.name, outcome: 'wait' })
}

/** Such a producer polls for what has become of its jobs. */
async function poll(fleet: Fleet, queue: ReturnType<typeof plainQueue>, calls: readonly FleetCall[]): Promise<void> {
  while (!calls.every((call) => call.ended)) {
    for (const one of calls.filter((call) => !call.ended)) {
      const state = await persistently(() => queue.getJobState(one.id))
      if (state === 'completed') ended(fleet, one, 'done')
      else if (state === 'failed') failed(fleet, one, await failureOf(queue, one.id))
      else if (state === 'unknown') ended(fleet, one, 'cancelled')
    }
    await sleep(500)
  }
}

function failed(fleet: Fleet, one: FleetCall, failure: Error): void {
  ended(fleet, one, howFailed(failure), failure)
}

/** BullMQ keeps an error as text, which begins with its code. */
async function failureOf(queue: ReturnType<typeof plainQueue>, id: string): Promise<Error> {
  const job = await persistently(() => queue.getJob(id))
  const reason = job?.failedReason ?? ''
  const [, code] = /^([A-Z_]+): /.exec(reason) ?? []
  return Object.assign(new Error(reason), code === undefined ? {} : { code })
}

/** BullMQ hands on what Redis refuses; a producer tries again. */
export async function persistently<T>(step: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await step()
    } catch (error) {
      if (!(error instanceof Error) || !/^(OOM|NOREPLICAS|READONLY|MISCONF|LOADING)/.test(error.message)) throw error
      await sleep(500)
    }
  }
}

/** BullMQ's own queue object, in a process. */
export function plainQueue(fleet: Fleet, process: SimProcess, name: string) {
  const { Redis, Queue } = fleet.program
  // It connects at once: BullMQ gives up for good on a connection whose first attempt, made by BullMQ, fails.
  const connection = new Redis({ Connector: fleet.connectorOf(process), maxRetriesPerRequest: null })
  connection.on('error', () => {})
  const queue = new Queue(name, { connection, prefix: `{tollgate:${NAMESPACE}}` })
  queue.on('error', () => {})
  return queue
}
