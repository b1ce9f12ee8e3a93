import type { Redis } from 'ioredis'
import { followerOf } from './follower.js'
import { refusesCommand } from './script.js'

/** What is to be known of a Redis before it is relied upon, as its server and user say it; null where neither says it. */
export interface RedisFacts {
  readonly topology: 'single' | 'sentinel' | 'cluster'
  /** The program and its version: `redis 7.0.15`, `valkey 8.1.0`. */
  readonly server: string | null
  /** Whether scripts go as functions; false: the server or the user refuses them, and each script costs more. */
  readonly functions: boolean
  /** False: the connection is to a replica, which takes no writes. */
  readonly isMaster: boolean | null
  readonly replicas: number | null
  /** How many replicas must be there for a write. */
  readonly minReplicasToWrite: number | null
  /** Must be noeviction, or Redis throws away meters and jobs. */
  readonly maxmemoryPolicy: string | null
  readonly appendOnly: boolean | null
  /** The most arguments that a request may have here, as far as was tried. */
  readonly argumentsTried: number
  /** Whether so many arguments were taken. */
  readonly takesArguments: boolean
}

/** More than one request of Tollgate has. */
const ARGUMENTS = 3999

/** Asks a Redis what of it matters for a gate. Changes nothing. */
export async function inspectRedis(redis: Redis): Promise<RedisFacts> {
  const text = await redis.info().catch(() => '')
  const field = (name: string) => new RegExp(`^${name}:(.*)$`, 'm').exec(text)?.[1]?.trim() ?? null
  const number = (name: string) => (field(name) === null ? null : Number(field(name)))
  const setting = async (name: string) => ((await redis.call('config', 'get', name).catch(() => [])) as string[])[1] ?? null
  const [refused, taken, minReplicas] = await Promise.all([
    redis.call('fcall', 'tollgate-probe', '0').then(
      () => false,
      (error: unknown) => refusesCommand(error),
    ),
    redis.call('exists', ...Array.from({ length: ARGUMENTS - 1 }, () => '{tollgate}probe')).then(
      () => true,
      (error: unknown) => error instanceof Error && /^(NOPERM|MOVED)/.test(error.message),
    ),
    setting('min-replicas-to-write'),
  ])
  const role = field('role')
  const name = field('valkey_version') === null ? 'redis' : 'valkey'
  const version = field('valkey_version') ?? field('redis_version')
  const kind = followerOf(redis)?.address.kind ?? (field('redis_mode') === 'cluster' ? 'cluster' : 'single')
  return {
    topology: kind,
    server: version === null ? null : `${name} ${version}`,
    functions: !refused,
    isMaster: role === null ? null : role === 'master',
    replicas: number('connected_slaves'),
    minReplicasToWrite: minReplicas === null ? null : Number(minReplicas),
    maxmemoryPolicy: field('maxmemory_policy'),
    appendOnly: field('aof_enabled') === null ? null : field('aof_enabled') === '1',
    argumentsTried: ARGUMENTS,
    takesArguments: taken,
  }
}
