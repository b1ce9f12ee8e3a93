import { setTimeout as sleep } from 'node:timers/promises'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { atLeast, atMost, type Figure, mostInAny } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { Helper } from './lib/processes.js'
import { type Progress, warmUp } from './lib/warm-up.js'

const CONCURRENCY = 100
const TICK_MS = 50

export interface Overload {
  readonly calls: number
  readonly perSecond: number
  readonly burst: number
  /** The rate of enqueueing, as a multiple of the limit; Infinity = all at once. */
  readonly enqueuedAt: number
  readonly utilisation: number
}

/** Many more calls than one meter allows: the share of the limit used, pickups per call, and the most starts in a second. */
export function overload(redis: string, run: Overload): Promise<Figure[]> {
  const namespace = `bench-overload-${run.perSecond}`
  return inNamespaces(redis, [namespace], () => measure(redis, namespace, run))
}

async function measure(redis: string, namespace: string, run: Overload): Promise<Figure[]> {
  const rules: RuleSpec[] = [
    { name: 'meter', scope: 'agent', match: { agents: ['agent'] }, limits: [{ requests: run.perSecond, per: 'second', burst: run.burst }] },
  ]
  const tollgate = await Tollgate.open({ redis, namespace, rules })
  const agent = await Helper.start('agent-process', {})
  const worker = await Helper.start('worker-process', { redis, namespace, concurrency: CONCURRENCY, agent: await agent.request<number>('port') })
  const warm = await warmUp(tollgate, worker)
  await agent.request('arrivals')

  const begin = performance.timeOrigin + performance.now()
  const perTick = Math.min(run.calls, (run.perSecond * run.enqueuedAt * TICK_MS) / 1000)
  for (let enqueued = 0; enqueued < run.calls; enqueued += perTick) {
    await tollgate.enqueueMany(Array.from({ length: Math.min(perTick, run.calls - enqueued) }, () => ({ agent: 'agent' })))
    await sleep(begin + ((enqueued + perTick) / run.calls) * (run.calls / (run.perSecond * run.enqueuedAt)) * 1000 - performance.timeOrigin - performance.now())
  }
  const deadline = performance.now() + (run.calls / run.perSecond) * 3000
  let progress = { pickups: 0, finished: 0 }
  while (progress.finished < run.calls && performance.now() < deadline) {
    await sleep(50)
    const { pickups, finished } = await worker.request<Progress>('progress')
    progress = { pickups: pickups - warm.pickups, finished: finished - warm.finished }
  }
  const charged = (await worker.request<{ at: number }[]>('starts')).map(({ at }) => at).sort((a, b) => a - b)
  const seen = (await agent.request<{ at: number }[]>('arrivals')).map(({ at }) => at)
  await Promise.all([worker.stop(), agent.stop(), tollgate.close()])

  const last = charged.at(-1) ?? Number.NaN
  const first = charged[0] ?? Number.NaN
  const idealMs = ((run.calls - run.burst) / run.perSecond) * 1000
  const from = first + 1000
  const until = last - 1000
  const inside = charged.filter((at) => at >= from && at < until).length
  const name = `overload ${run.calls.toLocaleString('en')} at ${run.perSecond.toLocaleString('en')}/s, burst ${run.burst}`
  const bound = run.perSecond + run.burst
  return [
    atLeast(
      `${name}: utilisation, whole run`,
      idealMs / (last - begin),
      run.utilisation,
      `${Math.round(last - begin)} ms from the first enqueue to the last start; ideal ${Math.round(idealMs)}`,
    ),
    atLeast(
      `${name}: utilisation, second to second last second`,
      inside / (((until - from) / 1000) * run.perSecond),
      0.99,
      `${inside} starts in ${Math.round(until - from)} ms`,
    ),
    atMost(
      `${name}: pickups per finished call`,
      progress.pickups / progress.finished,
      1.05,
      `${progress.pickups} pickups, ${progress.finished} of ${run.calls} finished`,
    ),
    atMost(`${name}: most starts in any 1 s, as charged`, mostInAny(charged, 1000), bound, "by Redis' clock"),
    atMost(
      `${name}: most starts in any 1 s, as the agent sees them`,
      mostInAny(seen, 1000),
      Math.floor(bound * 1.02),
      "arrivals over HTTP, by the agent's clock",
    ),
  ]
}
