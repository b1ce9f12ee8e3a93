import { setTimeout as sleep } from 'node:timers/promises'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { atMost, type Figure, percentile } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { Helper } from './lib/processes.js'

const NAMESPACE = 'bench-override'
const BAR_MS = 100
const ROUNDS = 100
/** Waiting calls of the user that the override is for. */
const WAITING = 10
/** Other users with a waiting call, each in a line of its own, which the override does not move. */
const OTHER_LINES = [0, 200] as const
const RULES: RuleSpec[] = [{ name: 'user', scope: 'user', limits: [{ requests: 1, per: 'day' }] }]
const HOUR_MS = 3_600_000
const TIMEOUT_MS = 10_000

const now = () => performance.timeOrigin + performance.now()

interface Start {
  readonly at: number
  readonly name: string
}

/** @returns the ms from the call of grant() to the start of each waiting call */
async function measure(redis: string, otherLines: number): Promise<number[]> {
  const tollgate = await Tollgate.open({ redis, namespace: NAMESPACE, rules: RULES })
  const agent = await Helper.start('agent-process', {})
  const worker = await Helper.start('worker-process', { redis, namespace: NAMESPACE, concurrency: 100, agent: await agent.request<number>('port') })
  const line = (user: string, calls: number) => Array.from({ length: calls }, () => ({ agent: 'agent', user, org: user }))
  await tollgate.enqueueMany(Array.from({ length: otherLines }, (_, index) => line(`other-${index}`, 2)).flat())
  const wakes: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const user = `user-${round}`
    await tollgate.enqueueMany(line(user, 1 + WAITING))
    // The first of them has room and starts; the others wait.
    for (let first = false; !first; await sleep(5)) first = (await worker.request<Start[]>('starts')).some(({ name }) => name === user)
    await sleep(50)
    const begin = now()
    const id = await tollgate.overrides.grant({ for: { user }, allow: 'unlimited', reason: 'testing', by: 'bench', forMs: HOUR_MS })
    let woken = 0
    while (woken < WAITING && now() - begin < TIMEOUT_MS) {
      const starts = (await worker.request<Start[]>('starts')).filter(({ name }) => name === user)
      woken += starts.length
      wakes.push(...starts.map(({ at }) => at - begin))
      await sleep(5)
    }
    await tollgate.overrides.revoke(id)
  }
  await Promise.all([worker.stop(), agent.stop()])
  await tollgate.close()
  return wakes
}

/** The time from the grant of an override to the start of its waiting calls, on a worker in another process. */
export async function override(redis: string): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const otherLines of OTHER_LINES) {
    const wakes = await inNamespaces(redis, [NAMESPACE], () => measure(redis, otherLines))
    const all = wakes.length === ROUNDS * WAITING
    const p99 = all ? percentile(wakes, 0.99) : Number.POSITIVE_INFINITY
    const detail = `p50 ${percentile(wakes, 0.5).toFixed(1)} ms, most ${Math.max(...wakes).toFixed(1)} ms; ${wakes.length} of ${ROUNDS * WAITING} calls woken`
    figures.push(atMost(`override: from grant() to the start of its waiting calls, beside ${otherLines} other lines, p99 in ms`, p99, BAR_MS, detail))
  }
  return figures
}
