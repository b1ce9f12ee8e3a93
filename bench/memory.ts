import { Redis } from 'ioredis'
import { Keys } from '../src/redis/keys.js'
import { atMost, type Figure, median } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'

const NAMESPACE = 'bench-memory'
const VALUES = 1000
const FIRST = 100_000
const BAR = 160
const VALUE = /user-\d{6}/

/**
 * The bytes that Redis keeps for one scope value with three limits of the default algorithm
 * after one check: MEMORY USAGE of every key with its name. The limits are so low that no
 * bucket is full again, which would remove its key, before it is measured. The detail has the
 * bytes per check in all other keys.
 */
export function memory(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], async () => [await measure(redis)])
}

async function measure(url: string): Promise<Figure> {
  const limits = [
    { requests: 60, per: 'minute' },
    { requests: 600, per: 'hour' },
    { requests: 1000, per: 'day' },
  ]
  const tollgate = await openHere({ redis: url, namespace: NAMESPACE, rules: [{ name: 'user', scope: 'user', limits }] })
  const redis = new Redis(url)
  const before = await usage(redis)
  const values = Array.from({ length: VALUES }, (_, index) => `user-${FIRST + index}`)
  await Promise.all(values.map((user) => tollgate.gate.admit({ agent: 'a', user })))
  const after = await usage(redis)
  redis.disconnect()
  const each = values.map((value) => after.get(value) ?? 0)
  if (each.includes(0)) throw new Error(`${each.filter((bytes) => bytes === 0).length} of ${VALUES} values left no key that carries their name`)
  const rest = (after.get('') ?? 0) - (before.get('') ?? 0)
  return atMost(
    'bytes of Redis per scope value with three limits',
    median(each),
    BAR,
    `median of ${VALUES.toLocaleString('en')} (${Math.min(...each)} to ${Math.max(...each)}), by MEMORY USAGE; besides, ${(rest / VALUES).toFixed(0)} bytes per check in keys that no value has`,
  )
}

/** Bytes by scope value; under '' those of keys without one. */
async function usage(redis: Redis): Promise<Map<string, number>> {
  const bytes = new Map<string, number>()
  for await (const keys of redis.scanStream({ match: `${new Keys(NAMESPACE).prefix}*`, count: 1000 })) {
    const sizes = await Promise.all((keys as string[]).map((key) => redis.memory('USAGE', key)))
    for (const [index, key] of (keys as string[]).entries()) {
      const value = VALUE.exec(key)?.[0] ?? ''
      bytes.set(value, (bytes.get(value) ?? 0) + (sizes[index] ?? 0))
    }
  }
  return bytes
}
