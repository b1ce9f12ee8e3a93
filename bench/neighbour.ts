import { setTimeout as sleep } from 'node:timers/promises'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { type Figure, percentile } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { Helper } from './lib/processes.js'

const PER_SECOND = 50
const MODEST_PER_SECOND = 25
const SECONDS = 8
const RULES: RuleSpec[] = [{ name: 'org', scope: 'org', limits: [{ requests: PER_SECOND, per: 'second', burst: 10 }] }]

/** Waits of a tenant within its limit, in ms from its enqueue to its start. */
function waits(redis: string, greedyCalls: number): Promise<number[]> {
  const namespace = `bench-neighbour-${greedyCalls}`
  return inNamespaces(redis, [namespace], () => measure(redis, namespace, greedyCalls))
}

async function measure(redis: string, namespace: string, greedyCalls: number): Promise<number[]> {
  const tollgate = await Tollgate.open({ redis, namespace, rules: RULES })
  const agent = await Helper.start('agent-process', {})
  const worker = await Helper.start('worker-process', { redis, namespace, concurrency: 100, agent: await agent.request<number>('port') })
  const now = () => performance.timeOrigin + performance.now()
  const warm = Array.from({ length: 50 }, () => ({ agent: 'agent', payload: { at: now() } }))
  await tollgate.enqueueMany(warm)
  await sleep(500)
  await worker.request('starts')
  const greedy = tollgate.enqueueMany(Array.from({ length: greedyCalls }, () => ({ agent: 'agent', org: 'greedy', payload: { at: now() } })))
  await greedy
  for (let i = 0; i < MODEST_PER_SECOND * SECONDS; i++) {
    await tollgate.enqueue({ agent: 'agent', org: 'modest', payload: { at: now() } })
    await sleep(1000 / MODEST_PER_SECOND)
  }
  await sleep(500)
  const starts = await worker.request<{ at: number; name: string; enqueuedAt: number }[]>('starts')
  await Promise.all([worker.stop(), agent.stop()])
  await tollgate.close()
  return starts.filter(({ name }) => name === 'modest').map(({ at, enqueuedAt }) => at - enqueuedAt)
}

/** Whether a tenant within its limit waits longer beside another that is 100 times over its own. */
export async function neighbour(redis: string): Promise<Figure[]> {
  const alone = await waits(redis, 0)
  const beside = await waits(redis, PER_SECOND * 100)
  const p99Alone = percentile(alone, 0.99)
  const p99Beside = percentile(beside, 0.99)
  const complete = alone.length === MODEST_PER_SECOND * SECONDS && beside.length === alone.length
  return [
    {
      what: 'neighbour: p99 wait of a tenant within its limit, beside one 100× over its own, in ms',
      value: p99Beside,
      bar: `≤ max(20, 1.5 × alone)`,
      ok: complete && p99Beside <= Math.max(20, 1.5 * p99Alone),
      detail: `alone p99 ${p99Alone.toFixed(1)} ms, p50 ${percentile(alone, 0.5).toFixed(1)}; beside p50 ${percentile(beside, 0.5).toFixed(1)}; ${beside.length} calls`,
    },
  ]
}
