import type { Namespace } from './namespace.js'

/** Everything a namespace has in Redis, by key: what a change-nothing must leave equal. */
export async function snapshot(namespace: Namespace): Promise<Record<string, string>> {
  const keys = await namespace.allKeys()
  const values = await Promise.all(keys.map((key) => namespace.redis.dumpBuffer(key)))
  return Object.fromEntries(keys.map((key, index) => [key, values[index]?.toString('base64') ?? '']))
}
