import type { Redis } from 'ioredis'
import { DEFAULTS } from '../model/defaults.js'
import { withoutArguments } from '../model/secrets.js'
import { connect, connectWithin } from '../redis/connection.js'
import { Keys } from '../redis/keys.js'
import { missingPermission } from '../redis/permissions.js'
import { library } from '../store/redis/scripts.js'
import { type Common, EXIT, print, REDIS_TIMEOUT_MS, redisUrl } from './common.js'

/** good: as it should be. warn: works, and something is lost or slower than it need be. bad: calls, usage or limits are lost. */
type FindingState = 'good' | 'warn' | 'bad'

interface Diagnosis {
  readonly check: string
  readonly state: FindingState
  readonly found: string
  /** How to mend it; null where there is nothing to mend. */
  readonly mend: string | null
}

const PINGS = 30
const SLOW_MS = 10
const VERY_SLOW_MS = 100
const CLOCK_OFF_MS = 1000

const good = (check: string, found: string): Diagnosis => ({ check, state: 'good', found, mend: null })
const warn = (check: string, found: string, mend: string): Diagnosis => ({ check, state: 'warn', found, mend })
const bad = (check: string, found: string, mend: string): Diagnosis => ({ check, state: 'bad', found, mend })

/** The fields of INFO. */
function fieldsOf(info: string): ReadonlyMap<string, string> {
  return new Map(
    info.split('\r\n').flatMap((line): [string, string][] => {
      const colon = line.indexOf(':')
      return colon < 1 ? [] : [[line.slice(0, colon), line.slice(colon + 1)]]
    }),
  )
}

type Info = ReadonlyMap<string, string>

function version(info: Info): Diagnosis {
  const name = info.get('valkey_version') === undefined ? 'Redis' : 'Valkey'
  const found = info.get('valkey_version') ?? info.get('redis_version') ?? 'unknown'
  const [major = 0, minor = 0] = found.split('.').map(Number)
  const mend = 'Upgrade to Redis 7 or Valkey 8; in between Redis 6.2 works, by scripts instead of functions.'
  if (major < 6 || (major === 6 && minor < 2)) return bad('version', `${name} ${found}`, mend)
  return major < 7 ? warn('version', `${name} ${found}`, mend) : good('version', `${name} ${found}`)
}

function topology(info: Info): Diagnosis {
  const role = info.get('role') ?? 'unknown'
  const replicas = Number(info.get('connected_slaves') ?? 0)
  if (role !== 'master') return bad('topology', `a replica (role ${role})`, 'Give Tollgate the address of the primary: a replica refuses writes.')
  if (replicas === 0)
    return warn('topology', 'a primary without replicas', 'Run a replica, so that a machine that is lost does not take waiting calls with it.')
  return good('topology', `${info.get('cluster_enabled') === '1' ? 'a node of a Redis Cluster' : 'a primary'} with ${replicas} replicas`)
}

function memory(info: Info): Diagnosis {
  const used = Number(info.get('used_memory') ?? 0)
  const most = Number(info.get('maxmemory') ?? 0)
  const megabytes = (bytes: number) => `${Math.round(bytes / 1_048_576)} MB`
  if (most === 0)
    return warn(
      'memory',
      `${megabytes(used)} used, no maxmemory`,
      'Set maxmemory below what the machine has: CONFIG SET maxmemory 2gb. Without it the kernel ends Redis.',
    )
  const share = used / most
  const found = `${megabytes(used)} of ${megabytes(most)} used (${Math.round(share * 100)} %)`
  const mend = 'Raise maxmemory, or bound what waits with maxWaiting; see docs/operations.md, Memory.'
  return share > 0.95 ? bad('memory', found, mend) : share > 0.8 ? warn('memory', found, mend) : good('memory', found)
}

/** Managed services hide their configuration: INFO says some of it. */
async function setting(redis: Redis, name: string): Promise<string | undefined> {
  const reply = (await redis.config('GET', name).catch(() => [])) as readonly string[]
  return reply[1]
}

async function eviction(redis: Redis, info: Info): Promise<Diagnosis> {
  const policy = info.get('maxmemory_policy') ?? (await setting(redis, 'maxmemory-policy'))
  const mend = 'CONFIG SET maxmemory-policy noeviction, and the same in redis.conf: other policies throw away usage and calls.'
  if (policy === undefined) return warn('eviction', 'not told', mend)
  return policy === 'noeviction' ? good('eviction', policy) : bad('eviction', policy, mend)
}

async function persistence(redis: Redis, info: Info): Promise<Diagnosis> {
  if (info.get('loading') === '1') return bad('persistence', 'Redis is loading its data', 'Wait until it has loaded them.')
  if (info.get('aof_enabled') !== '1')
    return bad(
      'persistence',
      'no append-only file',
      'CONFIG SET appendonly yes, and the same in redis.conf: a restart forgets calls and usage back to the last snapshot.',
    )
  if (info.get('aof_last_write_status') === 'err') return bad('persistence', 'the append-only file cannot be written', 'Make room on its disk.')
  const fsync = await setting(redis, 'appendfsync')
  if (fsync === 'no') return warn('persistence', 'appendonly, appendfsync no', 'CONFIG SET appendfsync everysec: the kernel writes when it likes.')
  return good('persistence', `appendonly, appendfsync ${fsync ?? 'not told'}`)
}

async function clockFinding(redis: Redis): Promise<Diagnosis> {
  const sentMs = Date.now()
  const [secondsText, micros] = await redis.time()
  const middleMs = (sentMs + Date.now()) / 2
  const offMs = Number(secondsText) * 1000 + Number(micros) / 1000 - middleMs
  const found = `${Math.round(offMs)} ms ahead of this machine`
  if (Math.abs(offMs) < CLOCK_OFF_MS) return good('clock', found)
  return warn('clock', found, 'Keep both in time (chrony). Limits go by the clock of Redis alone, deadlines with a date by both.')
}

async function latency(redis: Redis): Promise<Diagnosis> {
  const times: number[] = []
  for (let n = 0; n < PINGS; n++) {
    const sentMs = performance.now()
    await redis.ping()
    times.push(performance.now() - sentMs)
  }
  times.sort((one, other) => one - other)
  const at = (share: number) => times[Math.floor(share * (times.length - 1))] as number
  const found = `p50 ${at(0.5).toFixed(1)} ms, p95 ${at(0.95).toFixed(1)} ms from here`
  const mend = `Put apps and workers near Redis, and look for slow commands (SLOWLOG GET). Above ${DEFAULTS.storeTimeoutMs} ms Redis counts as away.`
  return at(0.95) > VERY_SLOW_MS ? bad('latency', found, mend) : at(0.95) > SLOW_MS ? warn('latency', found, mend) : good('latency', found)
}

async function permissions(redis: Redis, probe: string): Promise<Diagnosis> {
  const user = redis.options.username ?? 'default'
  const missing = await missingPermission(redis, probe)
  if (missing === null) return good('permissions', `user ${user}`)
  return bad('permissions', `user ${user} may not use ${missing.what}`, `ACL SETUSER ${user} ${missing.acl}`)
}

/** How many libraries of functions there are, and which are of other versions. */
async function functions(redis: Redis): Promise<Diagnosis[]> {
  let names: string[]
  try {
    const listed = (await redis.call('FUNCTION', 'LIST', 'LIBRARYNAME', 'tollgate_*')) as readonly (readonly unknown[])[]
    names = listed.map((one) => String(one[1]))
  } catch (error) {
    const why = error instanceof Error ? withoutArguments(error).message : String(error)
    return [
      warn(
        'functions',
        `not to be had (${why.slice(0, 60)})`,
        'Nothing is wrong: scripts are sent by EVALSHA, which costs a third more of Redis. Allow +fcall +function|load +function|list.',
      ),
    ]
  }
  const old = names.filter((name) => name !== library.name)
  const current = names.includes(library.name) ? good('functions', library.name) : good('functions', 'not loaded yet: the first call loads them')
  if (old.length === 0) return [current]
  const mend = `When no process of another version runs any more: redis-cli FUNCTION DELETE ${old.join('; redis-cli FUNCTION DELETE ')}`
  return [current, warn('old libraries', old.join(', '), mend)]
}

async function clients(redis: Redis, info: Info): Promise<Diagnosis> {
  const connected = Number(info.get('connected_clients') ?? 0)
  const most = Number(info.get('maxclients') ?? (await setting(redis, 'maxclients')) ?? 0)
  if (most === 0 || connected < most * 0.8) return good('connections', `${connected}${most === 0 ? '' : ` of ${most}`}`)
  return warn('connections', `${connected} of ${most}`, 'Raise maxclients; a worker process has five connections, an application two.')
}

async function findingsOf(client: Redis, info: Info, rights: Diagnosis): Promise<Diagnosis[]> {
  return [
    version(info),
    topology(info),
    await persistence(client, info),
    await eviction(client, info),
    memory(info),
    await clients(client, info),
    await clockFinding(client),
    await latency(client),
    rights,
    ...(await functions(client)),
  ]
}

/** Looks at Redis, and prints what it finds, each with how to mend it. Exit code 1 where anything is bad. */
export async function runDoctor(options: Common): Promise<void> {
  const { prefix, probe } = new Keys(options.namespace ?? DEFAULTS.namespace, options.prefix)
  const { client } = connect(redisUrl(options), prefix)
  client.on('error', () => {})
  try {
    await connectWithin(client, REDIS_TIMEOUT_MS)
    const rights = await permissions(client, probe)
    const text = await client.info().catch((error: unknown) => {
      if (rights.state === 'bad') return null
      throw error
    })
    const findings = text === null ? [rights] : await findingsOf(client, fieldsOf(text), rights)
    const wrong = findings.filter(({ state }) => state !== 'good')
    if (options.json === true) print({ healthy: wrong.every(({ state }) => state !== 'bad'), findings }, true)
    else {
      print(
        findings.map(({ check, state, found }) => ({ check, state, found })),
        false,
      )
      for (const { check, mend } of wrong) console.log(`\n${check}: ${mend}`)
    }
    process.exitCode = wrong.some(({ state }) => state === 'bad') ? EXIT.failed : EXIT.ok
  } finally {
    client.disconnect()
  }
}
