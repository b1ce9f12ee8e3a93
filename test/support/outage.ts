import { onTestFinished } from 'vitest'
import type { Tollgate } from '../../src/index.js'
import { type Namespace, newNamespace } from './namespace.js'
import { type RedisServer, startRedis } from './redis-server.js'
import { until } from './until.js'

/** A Redis for one test, and a namespace on it. */
export async function ownRedis(): Promise<{ server: RedisServer; namespace: Namespace }> {
  const server = await startRedis()
  onTestFinished(() => server.stop())
  return { server, namespace: newNamespace(server.url) }
}

/** A way in which a Redis goes away, and how it comes back. */
export interface Way {
  readonly how: string
  begin(server: RedisServer, namespace: Namespace): Promise<unknown>
  end(server: RedisServer, namespace: Namespace): Promise<unknown>
}

export const WAYS: readonly Way[] = [
  { how: 'killed', begin: (server) => server.kill(), end: (server) => server.start() },
  { how: 'paused', begin: async (server) => server.pause(), end: async (server) => server.resume() },
  {
    how: 'read-only',
    begin: (_, { redis }) => redis.config('SET', 'min-replicas-to-write', '1'),
    end: (_, { redis }) => redis.config('SET', 'min-replicas-to-write', '0'),
  },
  {
    how: 'a replica of a master that is away',
    begin: (_, { redis }) => redis.replicaof('127.0.0.1', 1),
    end: (_, { redis }) => redis.replicaof('NO', 'ONE'),
  },
  { how: 'out of memory', begin: (_, { redis }) => redis.config('SET', 'maxmemory', '1'), end: (_, { redis }) => redis.config('SET', 'maxmemory', '0') },
]

export async function untilAway(tollgate: Tollgate): Promise<void> {
  await until('Redis counts as away', () => tollgate.stats.outage().away)
}

/** Until Redis is there, and every charge and settlement of the outage has been written to it. */
export async function untilBack(tollgate: Tollgate): Promise<void> {
  await until('Redis is back', () => !tollgate.stats.outage().away && tollgate.stats.outage().owed === 0)
}
