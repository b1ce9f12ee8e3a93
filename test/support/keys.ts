import type { Namespace } from './namespace.js'

/** Everything the namespace holds, to the byte. */
export async function everything(namespace: Namespace): Promise<string> {
  const keys = await namespace.allKeys()
  const values = await Promise.all(keys.map((key) => namespace.redis.dumpBuffer(key)))
  return keys.map((key, index) => `${key}=${values[index]?.toString('base64')}`).join('\n')
}

/** Removes every key of the namespace. */
export async function forget(namespace: Namespace): Promise<void> {
  const keys = await namespace.allKeys()
  if (keys.length > 0) await namespace.redis.del(...keys)
}
