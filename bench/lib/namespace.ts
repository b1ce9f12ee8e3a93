import { Redis } from 'ioredis'
import { Tollgate, type TollgateOptions } from '../../src/index.js'
import { Keys } from '../../src/redis/keys.js'
import { Helper } from './processes.js'

/** What figures that are no Tollgate's write begins with this. */
export const OTHER_KEYS = 'tollgate-bench:'
/** Bottleneck puts its own letters before the name it is given. */
const OTHER_PREFIXES = [OTHER_KEYS, `b_${OTHER_KEYS}`]

/** The namespaces in use. */
const entered = new Map<string, string>()
const opened = new Set<Tollgate>()

/** A Tollgate in this process, closed when its namespace is left: what it wrote after that would stay. */
export async function openHere(options: TollgateOptions): Promise<Tollgate> {
  const tollgate = await Tollgate.open(options)
  opened.add(tollgate)
  return tollgate
}

async function removeKeys(url: string, prefix: string): Promise<void> {
  const redis = new Redis(url)
  try {
    for await (const keys of redis.scanStream({ match: `${prefix}*`, count: 1000 })) {
      if ((keys as string[]).length > 0) await redis.unlink(...(keys as string[]))
    }
  } finally {
    redis.disconnect()
  }
}

/** Stops what still runs and removes every key of the namespaces in use. The Redis may be anybody's: nothing of ours may stay. */
export async function leaveAll(): Promise<void> {
  await Helper.stopAll()
  await Promise.all([...opened].map((tollgate) => tollgate.close()))
  opened.clear()
  for (const [namespace, redis] of entered) {
    entered.delete(namespace)
    await removeKeys(redis, new Keys(namespace).prefix)
    for (const prefix of OTHER_PREFIXES) await removeKeys(redis, prefix)
  }
}

/** Measures in namespaces that are empty at the beginning (a run that was killed may have left something) and gone at the end. */
export async function inNamespaces<T>(redis: string, namespaces: readonly string[], measure: () => Promise<T>): Promise<T> {
  for (const namespace of namespaces) {
    await removeKeys(redis, new Keys(namespace).prefix)
    entered.set(namespace, redis)
  }
  try {
    return await measure()
  } finally {
    await leaveAll()
  }
}
