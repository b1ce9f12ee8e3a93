import { Redis } from 'ioredis'
import type { RuleSpec, Tollgate } from '../src/index.js'
import { startCluster } from '../test/topologies/support/cluster.js'
import { AT_ONCE } from './lib/compare.js'
import { atLeast, atMost, type Figure, median } from './lib/measure.js'
import { inNamespaces, leaveAll, openHere } from './lib/namespace.js'
import { Helper } from './lib/processes.js'
import type { OpenCost } from './topology-process.js'

const TENANTS = Array.from({ length: 101 }, (_, n) => `bench-tenant-${n}`)
const ONE = 'bench-topology'
const ROUNDS = 7
const CALLS = 4000
const RULES: RuleSpec[] = (['user', 'org'] as const).map((scope) => ({ name: scope, scope, limits: ['minute', 'hour'].map((per) => ({ requests: 1e9, per })) }))

/** Namespaces of tenants: what one costs the process, and how the rate grows with the masters of a cluster. */
export async function topology(redis: string): Promise<Figure[]> {
  const opens = [await opened(redis, false), await opened(redis, true)]
  const cluster = await startCluster({ replicas: 0 })
  try {
    return [...opens, ...(await inNamespaces(redis, [ONE, ...TENANTS], () => compared(redis, cluster.url, cluster.masters)))]
  } finally {
    await leaveAll()
    await cluster.stop()
  }
}

async function opened(redis: string, shared: boolean): Promise<Figure> {
  const { mb, connections, ms } = await inNamespaces(redis, TENANTS, async () => {
    const helper = await Helper.start('topology-process', { redis, shared })
    return helper.request<OpenCost>('open', TENANTS)
  })
  const how = shared ? 'given one client' : 'by URL'
  return atMost(`MB of one Tollgate among ${TENANTS.length} in a process, ${how}`, mb, 1, `${connections.toFixed(2)} connections and ${ms.toFixed(1)} ms each`)
}

type Master = { readonly client: Pick<Redis, 'info'> }

/** µs of CPU that each server has used so far. */
function cpuOf(masters: readonly Master[]): Promise<number[]> {
  return Promise.all(
    masters.map(async ({ client }) => {
      const info = await client.info('cpu')
      const seconds = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1])
      return (seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1e6
    }),
  )
}

/** Checks that take turns between Tollgates. @returns µs of CPU per call: of the busiest server, and of this process */
async function cost(tollgates: readonly Tollgate[], masters: readonly Master[]) {
  const before = await cpuOf(masters)
  const own = process.cpuUsage()
  const begin = performance.now()
  let next = 0
  const checkOn = async () => {
    for (let n = next++; n < CALLS; n = next++) await (tollgates[n % tollgates.length] as Tollgate).gate.admit({ agent: 'a', user: `u${n % 50}`, org: 'o' })
  }
  await Promise.all(Array.from({ length: AT_ONCE }, checkOn))
  const perSecond = CALLS / ((performance.now() - begin) / 1000)
  const { user, system } = process.cpuUsage(own)
  const used = (await cpuOf(masters)).map((cpu, n) => (cpu - (before[n] as number)) / CALLS)
  return { busiest: Math.max(...used), sum: used.reduce((sum, one) => sum + one, 0), node: (user + system) / CALLS, perSecond }
}

async function compared(url: string, clusterUrl: string, masters: readonly Master[]): Promise<Figure[]> {
  const client = new Redis(url)
  const single = [{ client }]
  const open = (redis: string, namespaces: readonly string[]) => Promise.all(namespaces.map((namespace) => openHere({ redis, namespace, rules: RULES })))
  const settings = {
    one: [await open(url, [ONE]), single],
    clustered: [await open(clusterUrl, [ONE]), masters],
    tenants: [await open(url, TENANTS), single],
    spread: [await open(clusterUrl, TENANTS), masters],
  } as const
  type Name = keyof typeof settings
  const costs = Object.fromEntries(Object.keys(settings).map((name) => [name, []])) as unknown as Record<Name, Awaited<ReturnType<typeof cost>>[]>
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [name, [tollgates, servers]] of Object.entries(settings)) {
      const found = await cost(tollgates, servers)
      // The first round warms up.
      if (round > 0) costs[name as Name].push(found)
    }
  }
  client.disconnect()
  const of = (name: Name, what: keyof Awaited<ReturnType<typeof cost>>) => median(costs[name].map((one) => one[what]))
  const us = (name: Name, what: 'sum' | 'node' | 'busiest') => of(name, what).toFixed(1)
  const rate = (name: Name) => Math.round(of(name, 'perSecond')).toLocaleString('en')
  return [
    atMost(
      'one namespace on a cluster against a single Redis: µs of Redis per check',
      of('clustered', 'sum') / of('one', 'sum'),
      1.1,
      `${us('clustered', 'sum')} against ${us('one', 'sum')}, of Node ${us('clustered', 'node')} against ${us('one', 'node')}, medians of ${ROUNDS}`,
    ),
    atLeast(
      `checks of ${TENANTS.length} namespaces per second of CPU of the busiest master, three masters against one`,
      of('tenants', 'busiest') / of('spread', 'busiest'),
      2.5,
      `${us('spread', 'busiest')} µs per check of the busiest of three against ${us('tenants', 'busiest')}; ${rate('spread')} against ${rate('tenants')} a second on this machine`,
    ),
  ]
}
