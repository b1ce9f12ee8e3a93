import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Tollgate } from '../../src/index.js'
import type { Counters } from '../sample-agent/counters.js'
import type { AgentReady } from '../sample-agent/main.js'
import { agentFlags } from '../sample-agent/options.js'
import { AGENT } from './account.js'
import { Child } from './child.js'
import type { Plan } from './plan.js'
import { Progress } from './progress.js'
import { removeKeys } from './remove-keys.js'
import { sendCalls } from './sender.js'
import { takeSnapshot } from './snapshot.js'
import type { View } from './view.js'
import type { WorkerEvent, WorkerSettings } from './worker-events.js'

const QUEUE = 'demo'
const LAST_LOOK_MS = 1000
/** How long a step of the clean-up may take: longer than a child may take to end. */
const STEP_MS = 6000

/** Runs a plan: starts agent and worker, enqueues the calls, waits for their ends, and cleans up, also after an error. */
export async function run(plan: Plan, redis: string, view: View, outer: AbortSignal): Promise<{ progress: Progress; agent: Counters }> {
  const namespace = `demo-${randomUUID()}`
  const broken = new AbortController()
  const signal = AbortSignal.any([outer, broken.signal, AbortSignal.timeout(plan.longestMs)])
  const onDeath = (error: Error) => broken.abort(error)
  const takeDown: (() => Promise<void>)[] = []
  try {
    const agentUrl = await startAgent(plan, takeDown, signal, onDeath)
    const tollgate = await Tollgate.open({ redis, namespace, queue: QUEUE, rules: plan.rules })
    takeDown.push(
      () => removeKeys(redis, tollgate.prefix),
      () => tollgate.close(),
    )
    const progress = new Progress(plan.calls.length)
    const settings: WorkerSettings = { redis, namespace, queue: QUEUE, agents: { [AGENT]: { baseUrl: agentUrl } }, concurrency: plan.concurrency }
    await startWorker(settings, progress, takeDown, signal, onDeath)
    const ended = new AbortController()
    const watching = watch(plan, tollgate, progress, view, AbortSignal.any([signal, ended.signal]))
    try {
      await orAbort(Promise.all([sendCalls(plan, tollgate, progress, signal), progress.done]), signal)
    } finally {
      ended.abort()
      // Without Redis its last commands are never answered.
      await Promise.race([watching, sleep(LAST_LOOK_MS, undefined, { ref: false })])
    }
    const agent = (await (await fetch(`${agentUrl}/stats`)).json()) as Counters
    return { progress, agent }
  } finally {
    view.end()
    for (const step of takeDown.reverse()) await tryTo(step)
  }
}

/** A step of the clean-up that fails or hangs, for example without Redis, must not stop the others. */
async function tryTo(step: () => Promise<void>): Promise<void> {
  const tooLong = sleep(STEP_MS, undefined, { ref: false }).then(() => Promise.reject(new Error(`it took longer than ${STEP_MS} ms`)))
  await Promise.race([step(), tooLong]).catch((error: unknown) => {
    console.error(`could not clean up: ${error instanceof Error ? error.message : error}`)
  })
}

async function startAgent(plan: Plan, takeDown: (() => Promise<void>)[], signal: AbortSignal, onDeath: (error: Error) => void): Promise<string> {
  const ready = new Promise<string>((resolve) => {
    const flags = agentFlags({ ...plan.agent, port: 0 })
    const child = new Child<AgentReady>('../sample-agent/main.js', flags, ({ url }) => resolve(url), onDeath)
    takeDown.push(() => child.stop())
  })
  return orAbort(ready, signal)
}

async function startWorker(
  settings: WorkerSettings,
  progress: Progress,
  takeDown: (() => Promise<void>)[],
  signal: AbortSignal,
  onDeath: (error: Error) => void,
): Promise<void> {
  const ready = new Promise<void>((resolve) => {
    const onEvent = (event: WorkerEvent) => (event.kind === 'ready' ? resolve() : progress.report(event))
    const child = new Child<WorkerEvent>('./worker-process.js', [JSON.stringify(settings)], onEvent, onDeath)
    takeDown.push(() => child.stop())
  })
  await orAbort(ready, signal)
}

/** Shows a snapshot now and then, until the signal aborts; the last one shows the end. */
async function watch(plan: Plan, tollgate: Tollgate, progress: Progress, view: View, signal: AbortSignal): Promise<void> {
  const begin = performance.now()
  while (!signal.aborted) {
    await sleep(view.everyMs, undefined, { signal }).catch(() => {})
    view.show(await takeSnapshot(plan, tollgate, progress), performance.now() - begin)
  }
}

async function orAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  return Promise.race([work, aborted])
}
