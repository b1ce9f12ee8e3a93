import type { Namespace } from './namespace.js'

/** The value of every key of the namespace, byte for byte: equal before and after a call that must change nothing. */
export async function snapshot(namespace: Namespace): Promise<Record<string, string>> {
  const keys = await namespace.allKeys()
  const values = await Promise.all(keys.map((key) => namespace.redis.dumpBuffer(key)))
  return Object.fromEntries(keys.map((key, index) => [key, values[index]?.toString('base64') ?? '']))
}

/** Removes every key of the namespace. */
export async function forget(namespace: Namespace): Promise<void> {
  const keys = await namespace.allKeys()
  if (keys.length > 0) await namespace.redis.del(...keys)
}
