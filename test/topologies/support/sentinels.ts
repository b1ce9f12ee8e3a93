import { until } from '../../support/until.js'
import { type NodeOptions, type RedisNode, startNode } from './node.js'

export interface SentinelFleet {
  readonly url: string
  readonly nodes: readonly RedisNode[]
  readonly sentinels: readonly RedisNode[]
  /** The server that the sentinels name as master now. */
  master(): Promise<RedisNode>
  /** Until the sentinels name another master than this one. */
  failedOver(from: RedisNode): Promise<RedisNode>
  stop(): Promise<void>
}

/** One master, replicas of it, and three sentinels that see it down after so long. */
export async function startSentinels({
  replicas = 1,
  downAfterMs = 600,
  ...options
}: NodeOptions & { replicas?: number; downAfterMs?: number } = {}): Promise<SentinelFleet> {
  const flags = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1', ...(options.flags ?? [])]
  const first = await startNode({ ...options, flags })
  const others = await Promise.all(
    Array.from({ length: replicas }, () => startNode({ ...options, flags: [...flags, '--replicaof', `127.0.0.1 ${first.port}`] })),
  )
  const nodes = [first, ...others]
  const config = `sentinel monitor main 127.0.0.1 ${first.port} 2\nsentinel down-after-milliseconds main ${downAfterMs}\nsentinel failover-timeout main 3000\nsentinel parallel-syncs main 2\n`
  const sentinels = await Promise.all([1, 2, 3].map(() => startNode({ ...options, flags: [], config, sentinel: true })))
  const master = async () => {
    const [, port] = (await (sentinels[0] as RedisNode).client.call('sentinel', 'get-master-addr-by-name', 'main')) as [string, string]
    return nodes.find((node) => node.port === Number(port)) as RedisNode
  }
  await until(`${replicas} replicas are online`, async () => {
    const info = await first.client.info('replication')
    return (info.match(/state=online/g) ?? []).length >= replicas
  })
  await until('the sentinels know each other and the replicas', async () => {
    const known = await Promise.all(
      sentinels.map(async ({ client }) => {
        const fields = (await client.call('sentinel', 'master', 'main')) as string[]
        const field = (name: string) => Number(fields[fields.indexOf(name) + 1])
        return field('num-other-sentinels') === 2 && field('num-slaves') === replicas
      }),
    )
    return known.every(Boolean)
  })
  return {
    url: `sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/main`,
    nodes,
    sentinels,
    master,
    failedOver: async (from) => {
      await until('the sentinels name another master', async () => (await master()) !== from)
      return master()
    },
    stop: async () => {
      await Promise.all([...nodes, ...sentinels].map((node) => node.stop()))
    },
  }
}
