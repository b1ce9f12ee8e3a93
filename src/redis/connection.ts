import { type ClusterNode, type NatMap, Redis } from 'ioredis'
import { ConfigInvalid, TollgateError } from '../model/errors.js'
import { show } from '../validation/faults.js'
import { addressName, type RedisAddress, readAddress, type ServerAccess, type ServerNode } from './address.js'
import { connected, within } from './bounded-wait.js'
import { follow, followerOf, LONGEST_RETRY_MS } from './follower.js'
import { hashTagOf, slotOf } from './hash-slot.js'

/** The Redis of the command line and of worker processes where neither a flag nor REDIS_URL names one. */
export const DEFAULT_URL = 'redis://localhost:6379'
// A command waits until the connection is back instead of failing: an accepted call must not be lost.
const OPTIONS = { maxRetriesPerRequest: null, enableReadyCheck: true, maxLoadingRetryTime: LONGEST_RETRY_MS, lazyConnect: true } as const

/** An ioredis client: of version 5 or 6, from any copy that is installed; or a Cluster of ioredis, whose servers and credentials are used. */
export interface RedisClient {
  readonly status: string
  readonly options: object
  duplicate(): unknown
  disconnect(): void
}

/** Of a Cluster of ioredis, what tells how its servers are reached. */
interface ClusterClient {
  readonly options: {
    readonly redisOptions?: { username?: string; password?: string; tls?: object | true; family?: number }
    readonly natMap?: NatMap
  }
  readonly startupNodes?: readonly (ClusterNode & { username?: string; password?: string })[]
  nodes(role: 'all'): readonly { readonly options: { host?: string; port?: number; username?: string; password?: string } }[]
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
  const missing: string[] = METHODS.filter((method) => typeof given[method] !== 'function')
  if (typeof given['status'] !== 'string') missing.push('status')
  const { options } = given
  if (options === null || typeof options !== 'object') missing.push('options')
  if (missing.length > 0) throw new ConfigInvalid(`redis must be a URL or a client of ioredis 5 or later (got an object without ${missing.join(', ')})`)
  const fault = given['status'] === 'end' ? "has ended (its status is 'end')" : faultOfOptions(options as object)
  if (fault !== undefined) throw new ConfigInvalid(`redis: a client that is given ${fault}`)
  return true
}

function isCluster(client: object): client is ClusterClient {
  const given = client as Record<string, unknown>
  return given['isCluster'] === true && typeof given['nodes'] === 'function' && given['options'] !== null && typeof given['options'] === 'object'
}

/** The servers of an ioredis Cluster, and how they are reached: Tollgate makes its own connections to them. */
function addressOfCluster(cluster: ClusterClient): RedisAddress {
  const { redisOptions = {}, natMap } = cluster.options
  const first = (cluster.startupNodes ?? []).map((node): { host?: string; port?: number; username?: string; password?: string } => {
    if (typeof node === 'number') return { port: node }
    if (typeof node !== 'string') return { ...node } as { host?: string; port?: number }
    const address = readAddress(node.includes('://') ? node : `redis://${node}`)
    return address.kind === 'single' ? { ...address.node, ...address.access } : {}
  })
  const seen = [...cluster.nodes('all').map(({ options }) => options), ...first]
  const nodes: ServerNode[] = seen.map(({ host = 'localhost', port = 6379 }) => ({ host, port: Number(port) }))
  if (nodes.length === 0) throw new ConfigInvalid('redis: the ioredis Cluster that is given names no server')
  const { username = first[0]?.username, password = first[0]?.password, tls, family } = redisOptions
  const access: ServerAccess = {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(family === 4 || family === 6 ? { family } : {}),
    ...(tls === undefined ? {} : { tls: tls === true ? {} : tls }),
  }
  const reachedAt = (node: ServerNode): ServerNode => {
    const name = `${node.host}:${node.port}`
    return (typeof natMap === 'function' ? natMap(name) : natMap?.[name]) ?? node
  }
  return { kind: 'cluster', nodes, access, reachedAt }
}

/** @param prefix of the keys of the namespace */
function connectTo(address: RedisAddress, prefix: string): Redis {
  if (address.kind === 'cluster' && hashTagOf(prefix) === undefined)
    throw new ConfigInvalid(
      `prefix: on a Redis Cluster the prefix needs a hash tag, which keeps all keys of a namespace on one server: {${prefix}} (got ${show(prefix)})`,
    )
  const { host, port, path } = address.kind === 'single' ? address.node : (address.nodes[0] as ServerNode)
  return new Redis({ ...OPTIONS, ...address.access, ...(path === undefined ? { host, port } : { path }), ...follow(address, slotOf(prefix)) })
}

/**
 * A connection from a URL or to the servers of an ioredis Cluster, or the client that was given.
 * @param prefix of the keys of the namespace, which are all on one server of a cluster
 * @throws ConfigInvalid
 */
export function connect(redis: string | RedisClient | undefined, prefix: string): { client: Redis; owned: boolean } {
  if (typeof redis === 'object') {
    if (isCluster(redis)) return { client: connectTo(addressOfCluster(redis), prefix), owned: true }
    if (isRedis(redis)) return { client: redis, owned: false }
  }
  const url = (redis as string | undefined) ?? process.env['REDIS_URL'] ?? DEFAULT_URL
  return { client: connectTo(readAddress(url), prefix), owned: true }
}

/** What stands for the connection that the answers to a client come over: another one after each reconnection. undefined: there is none now. */
export function connectionOf({ status, stream }: Redis): unknown {
  return status === 'ready' ? stream : undefined
}

/** Whether Redis may have failed over, to a server that lacks what was written last, since it answered over a connection (`connectionOf`). */
export function mayHaveForgotten(client: Redis, connection: unknown): boolean {
  return connection === undefined || connection !== connectionOf(client)
}

/** Names the Redis of a connection in messages. */
function nameOfClient(client: Redis): string {
  const follower = followerOf(client)
  if (follower !== undefined) return addressName(follower.address)
  const { path, host = 'localhost', port = 6379, sentinels, name } = client.options
  if (sentinels) return `the master ${name} of ${sentinels.length} sentinels`
  return `Redis at ${path ?? `${host}:${port}`}`
}

/** @throws ConfigInvalid where the server is none that a URL of its kind may name */
function checkServer(client: Redis): void {
  const follower = followerOf(client)
  const mode = follower?.info['redis_mode']
  if (follower === undefined || mode === undefined) return
  const { kind } = follower.address
  if (kind === 'single' && mode === 'cluster')
    throw new ConfigInvalid(
      `redis: ${addressName(follower.address)} is a server of a Redis Cluster; give redis-cluster://host:port,host:port with some of its servers`,
    )
  if (kind === 'single' && mode === 'sentinel')
    throw new ConfigInvalid(`redis: ${addressName(follower.address)} is a sentinel; give sentinel://host:port,host:port/master-name`)
}

/** Resolves once the server answers. @throws REDIS_UNAVAILABLE with its address; ConfigInvalid */
export async function connectWithin(client: Redis, timeoutMs: number): Promise<void> {
  if (client.status === 'ready') return checkServer(client)
  let last: Error | undefined
  const onError = (error: Error) => {
    last = error
  }
  const late = () =>
    new TollgateError('REDIS_UNAVAILABLE', `${nameOfClient(client)} did not answer within ${timeoutMs} ms${last ? ` (${last.message})` : ''}`, { cause: last })
  client.on('error', onError)
  try {
    if (client.status === 'wait') client.connect().catch(onError)
    await within(timeoutMs, connected(client), { late })
  } finally {
    client.off('error', onError)
  }
  checkServer(client)
}
