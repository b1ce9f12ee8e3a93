import { removeKeys } from '../../examples/demo/remove-keys.js'
import { Tollgate, type TollgateOptions } from '../../src/index.js'
import { Keys } from '../../src/redis/keys.js'
import { Helper } from './processes.js'

/** The prefix of all keys that contenders other than Tollgate write. */
export const OTHER_KEYS = 'tollgate-bench:'
/** Bottleneck writes its own letters before the given name. */
const OTHER_PREFIXES = [OTHER_KEYS, `b_${OTHER_KEYS}`]

/** The namespaces in use, with their Redis. */
const entered = new Map<string, string>()
const opened = new Set<Tollgate>()

/** A Tollgate in this process, closed before the keys of its namespace are removed: keys written later would stay. */
export async function openHere(options: TollgateOptions): Promise<Tollgate> {
  const tollgate = await Tollgate.open(options)
  opened.add(tollgate)
  return tollgate
}

/** Stops every helper and Tollgate, and removes every key of the namespaces in use: the given Redis may be in other use. */
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

/** Measures in namespaces whose keys are removed before (a killed run may have left some) and after. */
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
