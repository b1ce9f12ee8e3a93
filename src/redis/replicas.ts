import type { Redis } from 'ioredis'
import { StoreSilent } from './store-error.js'

/** How long replicas may take to have what was written. */
const REPLICATED_MS = 500

/** How many replicas have to have a write before it counts, by connection; a connection that is not named here waits for none. */
const needed = new WeakMap<Redis, number>()

/** @param from the connection that `client` is a duplicate of, and waits as */
export function waitsForReplicas(client: Redis, replicas: number | Redis): void {
  const count = typeof replicas === 'number' ? replicas : (needed.get(replicas) ?? 0)
  if (count > 0) needed.set(client, count)
}

/**
 * Resolves when as many replicas as are needed have all that was written by this connection. What they have survives a failover to one of them.
 * @throws StoreSilent where they do not have it in time: the write has happened at the master, and may be lost with it
 */
export async function replicated(client: Redis): Promise<void> {
  const count = needed.get(client)
  if (count === undefined) return
  const have = Number(await client.call('wait', count, REPLICATED_MS))
  if (have < count) throw new StoreSilent(`NOREPLICAS: ${have} of ${count} replicas have taken the write within ${REPLICATED_MS} ms`)
}
