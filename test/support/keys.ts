import type { Namespace } from './namespace.js'

/** The value of every key of the namespace, byte for byte: equal before and after a call that must change nothing. */
export async function snapshot(namespace: Namespace): Promise<Record<string, string>> {
  const keys = await namespace.allKeys()
  const values = await Promise.all(keys.map((key) => contentOf(namespace, key)))
  return Object.fromEntries(keys.map((key, index) => [key, values[index] ?? '']))
}

async function contentOf({ redis, keys }: Namespace, key: string): Promise<string> {
  // A large hash has no order: Redis moves its fields about when they are read.
  if (key === keys.rules) return JSON.stringify(Object.entries(await redis.hgetall(key)).sort())
  return (await redis.dumpBuffer(key))?.toString('base64') ?? ''
}

/** Removes every key of the namespace. */
export async function forget(namespace: Namespace): Promise<void> {
  const keys = await namespace.allKeys()
  if (keys.length > 0) await namespace.redis.del(...keys)
}
