import { Redis } from 'ioredis'
import { ConfigInvalid, TollgateError } from '../model/errors.js'
import { show } from '../validation/faults.js'
import { connected, within } from './bounded-wait.js'

/** The Redis of the command line and of worker processes where neither a flag nor REDIS_URL names one. */
export const DEFAULT_URL = 'redis://localhost:6379'
// A command waits until the connection is back instead of failing: an accepted call must not be lost.
const OPTIONS = { maxRetriesPerRequest: null, enableReadyCheck: true, lazyConnect: true, retryStrategy: (times: number) => Math.min(1000, times * 50) }

/** A URL for an error message: without user, password and query, which may hold secrets. */
function withoutSecrets(url: string): string {
  return show(url.replace(/^([a-z+-]+:\/\/)?.*@/is, '$1…@').replace(/\?.*$/s, '?…'))
}

/** An ioredis client: of version 5 or 6, from any copy that is installed. */
export interface RedisClient {
  readonly status: string
  readonly options: { readonly maxRetriesPerRequest?: number | null | undefined }
  duplicate(): unknown
  disconnect(): void
}

/** Of what Tollgate and BullMQ call on a client, what tells ioredis from other libraries. The class is not compared: every installed copy of ioredis has its own. */
const METHODS = ['call', 'callBuffer', 'connect', 'defineCommand', 'disconnect', 'duplicate', 'on', 'pipeline', 'publish', 'subscribe'] as const

/** Why a client with these options cannot be used; undefined where it can. */
function faultOfOptions(options: object): string | undefined {
  const { maxRetriesPerRequest, keyPrefix, stringNumbers, replyMapping, enableAutoPipelining, db } = options as Record<string, unknown>
  if (maxRetriesPerRequest !== null) return 'must have maxRetriesPerRequest: null, or accepted calls could be lost when Redis restarts'
  if (keyPrefix) return 'must have no keyPrefix; the option namespace keeps gates apart'
  if (stringNumbers) return 'must not have stringNumbers: replies are read as numbers'
  if (replyMapping === 'resp3') return "must not have replyMapping: 'resp3': replies are read in the form of RESP2"
  if (enableAutoPipelining) return 'must not have enableAutoPipelining: scripts cannot be sent by it'
  if (!Number.isInteger(db ?? 0)) return `must have a whole number as db (got ${show(db)})`
  return undefined
}

function isRedis(client: object): client is Redis {
  const given = client as Record<string, unknown>
  if (given['isCluster'] === true) throw new ConfigInvalid('redis: an ioredis Cluster is not supported yet; give a URL or the client of a single Redis')
  const missing: string[] = METHODS.filter((method) => typeof given[method] !== 'function')
  if (typeof given['status'] !== 'string') missing.push('status')
  const { options } = given
  if (options === null || typeof options !== 'object') missing.push('options')
  if (missing.length > 0)
    throw new ConfigInvalid(`redis must be a redis:// or rediss:// URL or a client of ioredis 5 or later (got an object without ${missing.join(', ')})`)
  const fault = given['status'] === 'end' ? "has ended (its status is 'end')" : faultOfOptions(options as object)
  if (fault !== undefined) throw new ConfigInvalid(`redis: a client that is given ${fault}`)
  return true
}

/** A connection from a URL (redis:// or rediss://), or the client that was given. @throws ConfigInvalid */
export function connect(redis: string | RedisClient | undefined): { client: Redis; owned: boolean } {
  if (typeof redis === 'object' && isRedis(redis)) return { client: redis, owned: false }
  const url = (redis as string | undefined) ?? process.env['REDIS_URL'] ?? DEFAULT_URL
  if (/^[a-z+-]*(cluster|sentinel)[a-z+-]*:/i.test(url))
    throw new ConfigInvalid(`redis: URLs of a Redis Cluster or a Sentinel are not supported; give a redis:// or rediss:// URL (got ${withoutSecrets(url)})`)
  // Any option of ioredis can stand in the query; there it would override those above.
  if (!/^rediss?:\/\/(?=.)[^\s/?#]*(\/\d*)?(\?family=[46])?$/.test(url))
    throw new ConfigInvalid(
      `redis must be an ioredis client or a redis:// or rediss:// URL, which may end with the number of a database and ?family=4 or 6 (got ${withoutSecrets(url)})`,
    )
  try {
    return { client: new Redis(url, OPTIONS), owned: true }
  } catch {
    // ioredis' error quotes the URL with its password.
    throw new ConfigInvalid(`redis is not a URL that can be read; are host, port and the password's %-escapes right? (got ${withoutSecrets(url)})`)
  }
}

/** Resolves once the server answers. @throws REDIS_UNAVAILABLE with its address */
export async function connectWithin(client: Redis, timeoutMs: number): Promise<void> {
  if (client.status === 'ready') return
  let last: Error | undefined
  const onError = (error: Error) => {
    last = error
  }
  const late = () => {
    const where = `${client.options.host ?? 'localhost'}:${client.options.port ?? 6379}`
    return new TollgateError('REDIS_UNAVAILABLE', `Redis at ${where} did not answer within ${timeoutMs} ms${last ? ` (${last.message})` : ''}`, { cause: last })
  }
  client.on('error', onError)
  try {
    if (client.status === 'wait') client.connect().catch(onError)
    await within(timeoutMs, connected(client), { late })
  } finally {
    client.off('error', onError)
  }
}
