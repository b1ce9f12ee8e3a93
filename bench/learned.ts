import { setTimeout as sleep } from 'node:timers/promises'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { atLeast, atMost, type Figure } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { Helper } from './lib/processes.js'

// An agent whose real limit is half of the configured one, 20 workers in four processes, and
// always a call in line. Times are a tenth: a step of recovery every 3 s instead of 30 s, and
// 30 s instead of five minutes measured from the first 429 on.
const NAMESPACE = 'bench-learned'
const PROCESSES = 4
const WORKERS_EACH = 5
const CONFIGURED_PER_SECOND = 200
const SHARE = 0.5
const BURST = 10
const LATENCY_MS = 20
const WINDOW_MS = 30_000
const RECOVER_EVERY_MS = 3000
const UPSTREAM = { recoverEveryMs: RECOVER_EVERY_MS }

/** How well workers learn the limit of an agent: the share of calls refused after the first 429, and the share of the limit used. */
export function learned(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], () => measure(redis))
}

async function measure(redis: string): Promise<Figure[]> {
  const rules: RuleSpec[] = [{ name: 'account', scope: 'agent', limits: [{ requests: CONFIGURED_PER_SECOND, per: 'second', burst: BURST }] }]
  const perSecond = CONFIGURED_PER_SECOND * SHARE
  const tollgate = await Tollgate.open({ redis, namespace: NAMESPACE, rules, upstream: UPSTREAM })
  const agent = await Helper.start('limited-agent-process', { perSecond, burst: BURST, latencyMs: LATENCY_MS })
  const port = await agent.request<number>('port')
  const options = { redis, namespace: NAMESPACE, concurrency: WORKERS_EACH, agent: port, upstream: UPSTREAM }
  const workers = await Promise.all(Array.from({ length: PROCESSES }, () => Helper.start('worker-process', options)))
  const calls = Math.ceil((perSecond * (WINDOW_MS + 10_000)) / 1000)
  await tollgate.enqueueMany(Array.from({ length: calls }, () => ({ agent: 'agent' })))
  const answersSoFar = () => agent.request<{ at: number; status: number }[]>('answers')
  const firstAt = async () => (await answersSoFar()).find(({ status }) => status === 429)?.at
  const deadline = performance.now() + 20_000
  while ((await firstAt()) === undefined && performance.now() < deadline) await sleep(100)
  await sleep(WINDOW_MS + 200)
  const from = (await firstAt()) ?? Number.NaN
  const answers = (await answersSoFar()).filter(({ at }) => at > from && at <= from + WINDOW_MS)
  await Promise.all([...workers.map((worker) => worker.stop()), agent.stop()])
  await tollgate.close()
  const served = answers.filter(({ status }) => status === 200).length
  const refused = answers.length - served
  const detail = `${served} served and ${refused} refused in ${WINDOW_MS / 1000} s after the first 429; ${PROCESSES * WORKERS_EACH} workers, the agent allows ${perSecond}/s, the rule ${CONFIGURED_PER_SECOND}/s; windows a tenth`
  return [
    atMost('learned: share of calls refused after the first 429', refused / answers.length, 0.02, detail),
    atLeast("learned: utilisation of the agent's real limit", served / ((perSecond * WINDOW_MS) / 1000), 0.9, detail),
  ]
}
