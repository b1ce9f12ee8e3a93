import type { Redis } from 'ioredis'

/** What a key holds, in a form that two queues can be compared in: times are left out, and what has no order is sorted. */
type Shown = string | readonly string[] | Readonly<Record<string, string>>

const TIME = /\b1[5-9]\d{11}\b/g
const timeless = (text: string) => text.replace(TIME, '<time>')

/** Scores that are a time, or one times 4096, become a word. */
function scored(flat: readonly string[]): string[] {
  const pairs: string[] = []
  for (let n = 0; n < flat.length; n += 2) pairs.push(`${flat[n]} ${Number(flat[n + 1]) > 1e12 ? '<time>' : flat[n + 1]}`)
  // Times that differ by a ms in one queue and are alike in the other one give no order.
  return [...pairs.filter((pair) => !pair.endsWith(' <time>')), ...pairs.filter((pair) => pair.endsWith(' <time>')).sort()]
}

async function show(redis: Redis, key: string): Promise<Shown> {
  const type = await redis.type(key)
  if (type === 'string') return `${timeless((await redis.get(key)) ?? '')}${(await redis.pttl(key)) > 0 ? ' for a time' : ''}`
  if (type === 'list') return redis.lrange(key, '0', '-1')
  if (type === 'set') return (await redis.smembers(key)).sort()
  if (type === 'zset') return scored(await redis.zrange(key, '0', '-1', 'WITHSCORES')).map(timeless)
  if (type === 'hash') {
    const fields = Object.entries(await redis.hgetall(key)).map(([field, value]) => [field, timeless(value)] as const)
    return Object.fromEntries(fields.sort(([one], [other]) => (one < other ? -1 : 1)))
  }
  if (type === 'stream') return (await redis.xrange(key, '-', '+')).map(([, fields]) => timeless((fields as string[]).join(' ')))
  throw new Error(`a key of type ${type}`)
}

/** All keys of queues under a prefix, without the prefix, with what they hold. */
export async function bullState(redis: Redis, prefix: string): Promise<Record<string, Shown>> {
  const state: Record<string, Shown> = {}
  for (const key of await keysOf(redis, prefix)) state[key.slice(prefix.length)] = await show(redis, key)
  return JSON.parse(JSON.stringify(state).replaceAll(prefix, '<prefix>')) as Record<string, Shown>
}

async function keysOf(redis: Redis, prefix: string): Promise<string[]> {
  const found: string[] = []
  for await (const some of redis.scanStream({ match: `${prefix.replace(/[{}]/g, '\\$&')}*`, count: 1000 })) found.push(...(some as string[]))
  return [...new Set(found)].sort()
}

export async function removeKeys(redis: Redis, prefix: string): Promise<void> {
  const keys = await keysOf(redis, prefix)
  if (keys.length > 0) await redis.del(...keys)
}
