import { setTimeout as sleep } from 'node:timers/promises'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { atMost, type Figure, percentile } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { Helper } from './lib/processes.js'

const NAMESPACE = 'bench-override'
const BAR_MS = 100
const ROUNDS = 100
/** Calls of the user that the override is for; all of them wait. */
const WAITING = 10
/** Users beside it whose calls wait, each in a line of its own, and go on waiting. */
const OTHER_LINES = [0, 200] as const
const RULES: RuleSpec[] = [{ name: 'user', scope: 'user', limits: [{ requests: 1, per: 'day' }] }]
const HOUR_MS = 3_600_000
const PATIENCE_MS = 10_000

const now = () => performance.timeOrigin + performance.now()

interface Start {
  readonly at: number
  readonly name: string
}

/** From the call of grant() to the start of each call that waited for it, in ms. */
async function measure(redis: string, otherLines: number): Promise<number[]> {
  const tollgate = await Tollgate.open({ redis, namespace: NAMESPACE, rules: RULES })
  const agent = await Helper.start('agent-process', {})
  const worker = await Helper.start('worker-process', { redis, namespace: NAMESPACE, concurrency: 100, agent: await agent.ask<number>('port') })
  const line = (user: string, calls: number) => Array.from({ length: calls }, () => ({ agent: 'agent', user, org: user }))
  await tollgate.enqueueMany(Array.from({ length: otherLines }, (_, index) => line(`other-${index}`, 2)).flat())
  const wakes: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const user = `user-${round}`
    await tollgate.enqueueMany(line(user, 1 + WAITING))
    // The first of them starts at once, and nothing else goes on.
    for (let first = false; !first; await sleep(5)) first = (await worker.ask<Start[]>('starts')).some(({ name }) => name === user)
    await sleep(50)
    const begin = now()
    const id = await tollgate.overrides.grant({ for: { user }, allow: 'unlimited', reason: 'testing', by: 'bench', forMs: HOUR_MS })
    let woken = 0
    while (woken < WAITING && now() - begin < PATIENCE_MS) {
      const starts = (await worker.ask<Start[]>('starts')).filter(({ name }) => name === user)
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

/** How long an override takes to start the calls that wait for it, on a worker in another process. */
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
