import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { RuleSpec, Tollgate } from '../src/index.js'
import { type ClusterFleet, startCluster } from '../test/topologies/support/cluster.js'
import { AT_ONCE } from './lib/compare.js'
import { atLeast, atMost, type Figure, median } from './lib/measure.js'
import { inNamespaces, leaveAll, openHere } from './lib/namespace.js'
import { Helper } from './lib/processes.js'
import { redisCpuMicros } from './lib/redis-cpu.js'
import type { OpenCost } from './topology-process.js'

const named = (count: number) => Array.from({ length: count }, (_, n) => `bench-tenant-${n}`)
const TENANTS = named(101)
/** Hash slots spread them over three masters: the busiest has 35 % of them. */
const SPREAD = named(300)
const ONE = 'bench-topology'
const ROUNDS = 7
const IDLE_MS = 1000
const CALLS = 12_000
/** Checks in flight of each of many namespaces: those of one turn travel together, as under load. */
const AT_ONCE_EACH = 10
const RULES: RuleSpec[] = (['user', 'org'] as const).map((scope) => ({ name: scope, scope, limits: ['minute', 'hour'].map((per) => ({ requests: 1e9, per })) }))

/** Namespaces of tenants: what one costs the process, and how the rate grows with the masters of a cluster. */
export async function topology(redis: string): Promise<Figure[]> {
  const opens = [await opened(redis, false), await opened(redis, true)]
  const cluster = await startCluster({ replicas: 0 })
  try {
    const one = await inNamespaces(redis, [ONE], () => oneNamespace(redis, cluster))
    return [...opens, one, await inNamespaces(redis, SPREAD, () => manyNamespaces(redis, cluster))]
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

/** µs of CPU per call, and calls a second. */
interface Cost {
  readonly busiest: number
  readonly sum: number
  readonly node: number
  readonly perSecond: number
}

type Master = { readonly client: Pick<Redis, 'info'> }

/** µs of CPU that each server has used so far. */
function cpuOf(masters: readonly Master[]): Promise<number[]> {
  return Promise.all(masters.map(({ client }) => redisCpuMicros(client)))
}

/** µs of CPU per ms that each server uses for namespaces in which nothing happens: signs of life, looks at the rules. */
async function idleCpu(masters: readonly Master[]): Promise<number[]> {
  const before = await cpuOf(masters)
  const begin = performance.now()
  await sleep(IDLE_MS)
  const ms = performance.now() - begin
  return (await cpuOf(masters)).map((cpu, n) => (cpu - (before[n] as number)) / ms)
}

/** Checks that take turns between Tollgates. @returns what a check costs beyond that */
async function cost(tollgates: readonly Tollgate[], masters: readonly Master[]): Promise<Cost> {
  const idle = await idleCpu(masters)
  const before = await cpuOf(masters)
  const own = process.cpuUsage()
  const begin = performance.now()
  let next = 0
  const checkOn = async () => {
    for (let n = next++; n < CALLS; n = next++) await (tollgates[n % tollgates.length] as Tollgate).gate.admit({ agent: 'a', user: `u${n % 50}`, org: 'o' })
  }
  await Promise.all(Array.from({ length: Math.max(AT_ONCE, AT_ONCE_EACH * tollgates.length) }, checkOn))
  const ms = performance.now() - begin
  const { user, system } = process.cpuUsage(own)
  const used = (await cpuOf(masters)).map((cpu, n) => (cpu - (before[n] as number) - ms * (idle[n] as number)) / CALLS)
  return { busiest: Math.max(...used), sum: used.reduce((sum, one) => sum + one, 0), node: (user + system) / CALLS, perSecond: CALLS / (ms / 1000) }
}

/** The costs of the same checks, on one server and on three masters, in turn: medians. */
async function inTurn(url: string, cluster: ClusterFleet, namespaces: readonly string[]) {
  const client = new Redis(url)
  const open = (redis: string) => Promise.all(namespaces.map((namespace) => openHere({ redis, namespace, rules: RULES })))
  const settings = [[await open(url), [{ client }]] as const, [await open(cluster.url), cluster.masters] as const]
  const costs: Cost[][] = settings.map(() => [])
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [n, [tollgates, servers]] of settings.entries()) {
      const found = await cost(tollgates, servers)
      // The first round warms up.
      if (round > 0) costs[n]?.push(found)
    }
  }
  client.disconnect()
  const medians = (of: readonly Cost[]): Cost => {
    const middle = (what: keyof Cost) => median(of.map((one) => one[what]))
    return { busiest: middle('busiest'), sum: middle('sum'), node: middle('node'), perSecond: middle('perSecond') }
  }
  return costs.map(medians) as [single: Cost, cluster: Cost]
}

async function oneNamespace(url: string, cluster: ClusterFleet): Promise<Figure> {
  const [single, clustered] = await inTurn(url, cluster, [ONE])
  return atMost(
    'one namespace on a cluster against a single Redis: µs of Redis per check',
    clustered.sum / single.sum,
    1.1,
    `${clustered.sum.toFixed(1)} against ${single.sum.toFixed(1)}, of Node ${clustered.node.toFixed(1)} against ${single.node.toFixed(1)}, medians of ${ROUNDS}`,
  )
}

async function manyNamespaces(url: string, cluster: ClusterFleet): Promise<Figure> {
  const [one, three] = await inTurn(url, cluster, SPREAD)
  const rate = ({ perSecond }: Cost) => Math.round(perSecond).toLocaleString('en')
  return atLeast(
    `checks of ${SPREAD.length} namespaces per second of CPU of the busiest master, three masters against one`,
    one.busiest / three.busiest,
    2.5,
    `${three.busiest.toFixed(1)} µs per check of the busiest of three, ${three.sum.toFixed(1)} of all, against ${one.busiest.toFixed(1)}; ${rate(three)} against ${rate(one)} a second on this machine`,
  )
}
