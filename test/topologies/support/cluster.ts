import { slotOf } from '../../../src/redis/hash-slot.js'
import { until } from '../../support/until.js'
import { type NodeOptions, type RedisNode, startNode } from './node.js'

export interface ClusterFleet {
  readonly url: string
  readonly masters: readonly RedisNode[]
  readonly replicas: readonly RedisNode[]
  /** The server that has the slot of a key now, as the others see it. */
  owner(key: string): Promise<RedisNode>
  /** Moves a slot with its keys, as `redis-cli --cluster reshard` does. */
  move(slot: number, from: RedisNode, to: RedisNode): Promise<void>
  stop(): Promise<void>
}

const SLOTS = 16_384
const NODE_TIMEOUT_MS = 1000
const MOVED_AT_ONCE = 10

async function idOf({ client }: RedisNode): Promise<string> {
  return (await client.call('cluster', 'myid')) as string
}

const MASTERS = 3

/** Three masters that share the slots, with a replica each unless told otherwise. */
export async function startCluster({ replicas: perMaster = 1, ...options }: NodeOptions & { replicas?: number } = {}): Promise<ClusterFleet> {
  const flags = [
    '--cluster-enabled',
    'yes',
    '--cluster-node-timeout',
    String(NODE_TIMEOUT_MS),
    '--cluster-replica-validity-factor',
    '0',
    '--repl-diskless-sync-delay',
    '0',
    ...(options.flags ?? []),
  ]
  const nodes = await Promise.all(Array.from({ length: MASTERS * (1 + perMaster) }, () => startNode({ ...options, flags })))
  const masters = nodes.slice(0, MASTERS)
  const replicas = nodes.slice(MASTERS)
  const [first] = masters as [RedisNode]
  for (const [n, { client }] of nodes.entries()) await client.call('cluster', 'set-config-epoch', n + 1)
  await Promise.all(
    masters.map(async ({ client }, n) => {
      const from = Math.floor((SLOTS * n) / MASTERS)
      const to = Math.floor((SLOTS * (n + 1)) / MASTERS)
      await client.call('cluster', 'addslots', ...Array.from({ length: to - from }, (_, slot) => from + slot))
    }),
  )
  for (const { client } of nodes.slice(1)) await client.call('cluster', 'meet', '127.0.0.1', first.port)
  const knows = async ({ client }: RedisNode) => {
    const lines = ((await client.call('cluster', 'nodes')) as string).trim().split('\n')
    return lines.length === nodes.length && lines.every((line) => !/handshake|noaddr/.test(line))
  }
  await until('all servers of the cluster know each other', async () => (await Promise.all(nodes.map(knows))).every(Boolean))
  await Promise.all(replicas.map(async ({ client }, n) => client.call('cluster', 'replicate', await idOf(masters[n % MASTERS] as RedisNode))))
  await until('the cluster is there', async () => {
    const states = await Promise.all(nodes.map(({ client }) => client.call('cluster', 'info') as Promise<string>))
    if (!states.every((state) => state.includes('cluster_state:ok'))) return false
    const online = await Promise.all(replicas.map(({ client }) => client.info('replication')))
    return online.every((info) => info.includes('master_link_status:up'))
  })
  const owner = async (key: string) => {
    const slot = slotOf(key)
    const found = await Promise.any(
      nodes.map(async ({ client }) => {
        const ranges = (await Promise.race([client.call('cluster', 'slots'), silence()])) as [number, number, [string, number]][]
        const range = ranges.find(([from, to]) => from <= slot && slot <= to)
        return nodes.find(({ port }) => port === range?.[2][1]) as RedisNode
      }),
    )
    return found
  }
  return {
    url: `redis-cluster://${nodes
      .slice(0, MASTERS)
      .map(({ port }) => `127.0.0.1:${port}`)
      .join(',')}`,
    masters,
    replicas,
    owner,
    move: async (slot, from, to) => {
      const [source, target] = await Promise.all([idOf(from), idOf(to)])
      await to.client.call('cluster', 'setslot', slot, 'importing', source)
      await from.client.call('cluster', 'setslot', slot, 'migrating', target)
      for (;;) {
        const keys = (await from.client.call('cluster', 'getkeysinslot', slot, MOVED_AT_ONCE)) as string[]
        if (keys.length === 0) break
        await from.client.call('migrate', '127.0.0.1', to.port, '', 0, 5000, 'keys', ...keys)
      }
      for (const { client } of [to, from, ...masters.filter((node) => node !== to && node !== from)])
        await client.call('cluster', 'setslot', slot, 'node', target).catch(() => {})
    },
    stop: async () => {
      await Promise.all(nodes.map((node) => node.stop()))
    },
  }
}

function silence(): Promise<never> {
  return new Promise((_, reject) => setTimeout(() => reject(new Error('no answer')), 500))
}
