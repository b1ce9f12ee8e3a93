import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { Figures } from '../src/dashboard/figures.js'
import { askedPage } from '../src/dashboard/pages.js'
import { Snapshots } from '../src/dashboard/snapshots.js'
import type { Tollgate } from '../src/index.js'
import { atMost, type Figure } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'
import { redisCpuMicros } from './lib/redis-cpu.js'

const NAMESPACE = 'bench-dashboard'
const USERS = 10_000
/** One of each user has room; the others wait. */
const CALLS_OF_USER = 11
const LEAST_WAITING = 95_000
const AT_ONCE = 1000
const MEASURED_MS = 10_000
const SETTLES_MS = 15_000
const MOST_CPU_MS = 50
const MOST_REDIS_PERCENT = 1
const PAGES = ['/', '/lines', '/lines?line=per-user%2Fuser-100', '/budgets', '/rules']

/**
 * What a page that is looked at costs in a second, with 10,000 scope values and 100,000 waiting calls: CPU time of the server for a snapshot, and of Redis
 * in per cent of one core. What the process costs without viewers (it dispatches the lines, and writes the history) is taken off.
 */
export function dashboard(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], async () => {
    const rules = [
      {
        name: 'per-user',
        scope: 'user',
        limits: [
          { requests: 1, per: 'day', burst: 1 },
          { tokens: 1_000_000, per: 'day' },
        ],
      },
    ]
    const tollgate = await openHere({ redis, namespace: NAMESPACE, rules })
    // The first call of each user runs; the others wait for the next day.
    tollgate.worker(async () => 'done', { concurrency: 100 })
    await fill(tollgate)
    const client = new Redis(redis)
    try {
      await sleep(SETTLES_MS)
      const looked = await tollgate.history.now()
      if (looked === null || looked.waiting < LEAST_WAITING) throw new Error(`${looked?.waiting ?? 'no'} calls wait: there is nothing to measure`)
      const idle = await costOf(client)
      const figures: Figure[] = []
      for (const page of PAGES) figures.push(...(await measure(tollgate, client, page, idle)))
      return figures
    } finally {
      client.disconnect()
    }
  })
}

async function fill(tollgate: Tollgate): Promise<void> {
  const all = Array.from({ length: USERS * CALLS_OF_USER }, (_, n) => ({ agent: 'a', org: `org-${n % 50}`, user: `user-${n % USERS}`, cost: { tokens: 100 } }))
  for (let from = 0; from < all.length; from += AT_ONCE) await tollgate.enqueueMany(all.slice(from, from + AT_ONCE))
}

/** CPU time in ms per second: of this process, and of Redis. */
interface Cost {
  readonly own: number
  readonly redis: number
}

async function redisCpuMs(client: Redis): Promise<number> {
  return (await redisCpuMicros(client)) / 1000
}

async function costOf(client: Redis): Promise<Cost> {
  const [cpu, redis, began] = [process.cpuUsage(), await redisCpuMs(client), performance.now()]
  await sleep(MEASURED_MS)
  const { user, system } = process.cpuUsage(cpu)
  const seconds = (performance.now() - began) / 1000
  return { own: (user + system) / 1000 / seconds, redis: ((await redisCpuMs(client)) - redis) / seconds }
}

async function measure(tollgate: Tollgate, client: Redis, page: string, idle: Cost): Promise<Figure[]> {
  const snapshots = new Snapshots(new Figures(tollgate), pino({ level: 'silent' }))
  const found = askedPage(page)
  if (found === null) throw new Error(`${page} is no page`)
  let count = 0
  let bytes = 0
  const began = performance.now()
  const stop = snapshots.watch(found.url, found.asked, (data) => {
    count++
    bytes = data.length
  })
  const cost = await costOf(client)
  const perSecond = count / ((performance.now() - began) / 1000)
  stop()
  await snapshots.close()
  const { body } = await snapshots.of(found.url, found.asked)
  if (body.page !== found.asked.page || (body.page === 'lines' && body.rows.length < 25)) throw new Error(`${page} shows nothing`)
  const detail = `${count} snapshots of ${(bytes / 1000).toFixed(1)} kB in ${MEASURED_MS / 1000} s; without viewers ${idle.own.toFixed(1)} ms and ${(idle.redis / 10).toFixed(2)} % a second`
  return [
    atMost(`ms of server CPU for a snapshot of ${page}`, Math.max(0, cost.own - idle.own) / Math.max(0.01, perSecond), MOST_CPU_MS, detail),
    atMost(`% of Redis while one looks at ${page}`, Math.max(0, cost.redis - idle.redis) / 10, MOST_REDIS_PERCENT, detail),
  ]
}
