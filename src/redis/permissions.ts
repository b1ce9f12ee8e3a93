import type { Redis } from 'ioredis'
import { TollgateError } from '../model/errors.js'

/**
 * The commands that the user of a connection needs, with arguments that change nothing: each is sent for a key that does not exist (KEY), for one of
 * another type (TEXT), or with a number that is none. Redis checks the permission before it looks at these. docs/operations.md prints the list.
 */
const PROBES: Readonly<Record<string, readonly string[]>> = {
  bzpopmin: ['KEY', '-'],
  del: ['KEY'],
  exists: ['KEY'],
  get: ['KEY'],
  hdel: ['KEY', 'f'],
  hexists: ['KEY', 'f'],
  hget: ['KEY', 'f'],
  hgetall: ['KEY'],
  hincrby: ['KEY', 'f', '-'],
  hincrbyfloat: ['KEY', 'f', '-'],
  hlen: ['KEY'],
  hmget: ['KEY', 'f'],
  hmset: ['TEXT', 'f', 'v'],
  hscan: ['KEY', '0'],
  hset: ['TEXT', 'f', 'v'],
  hsetnx: ['TEXT', 'f', 'v'],
  incr: ['TEXT'],
  incrby: ['KEY', '-'],
  info: ['server'],
  lindex: ['KEY', '0'],
  llen: ['KEY'],
  lpop: ['KEY'],
  lpos: ['KEY', 'x'],
  lpush: ['TEXT', 'x'],
  lrange: ['KEY', '0', '0'],
  lrem: ['KEY', '0', 'x'],
  lset: ['KEY', '0', 'x'],
  ltrim: ['KEY', '0', '0'],
  mget: ['KEY'],
  persist: ['KEY'],
  pexpire: ['KEY', '1'],
  pexpireat: ['KEY', '1'],
  ping: [],
  pttl: ['KEY'],
  publish: ['CHANNEL', ''],
  rename: ['KEY', 'KEY'],
  rpop: ['KEY'],
  rpoplpush: ['KEY', 'KEY'],
  rpush: ['TEXT', 'x'],
  sadd: ['TEXT', 'x'],
  scard: ['KEY'],
  select: ['-'],
  set: ['KEY', '1', 'PX', '-'],
  setrange: ['KEY', '-', 'x'],
  sismember: ['KEY', 'x'],
  smembers: ['KEY'],
  srem: ['KEY', 'x'],
  time: [],
  type: ['KEY'],
  unlink: ['KEY'],
  xadd: ['KEY', '-', 'f', 'v'],
  xdel: ['KEY', '0-1'],
  xlen: ['KEY'],
  xrange: ['KEY', '-', '+'],
  xread: ['STREAMS', 'KEY', '0'],
  xrevrange: ['KEY', '+', '-', 'COUNT', '1'],
  xtrim: ['KEY', 'MAXLEN', '1'],
  zadd: ['KEY', '-', 'x'],
  zcard: ['KEY'],
  zcount: ['KEY', '0', '0'],
  zincrby: ['KEY', '-', 'x'],
  zlexcount: ['KEY', '-', '+'],
  zmscore: ['KEY', 'x'],
  zpopmin: ['KEY'],
  zrandmember: ['KEY', '1'],
  zrange: ['KEY', '0', '0'],
  zrangebylex: ['KEY', '-', '+'],
  zrangebyscore: ['KEY', '0', '0'],
  zrank: ['KEY', 'x'],
  zrem: ['KEY', 'x'],
  zremrangebyrank: ['KEY', '0', '0'],
  zremrangebyscore: ['KEY', '0', '0'],
  zrevrange: ['KEY', '0', '0'],
  zrevrangebyscore: ['KEY', '0', '0'],
  zscan: ['KEY', '0'],
  zscore: ['KEY', 'x'],
}

/** How long the key of another type stays, in ms. */
const TEXT_MS = 1000

export const NEEDED_COMMANDS: readonly string[] = [...Object.keys(PROBES), 'eval', 'evalsha', 'exec', 'multi', 'subscribe'].sort()
/** Commands without which a Tollgate works, at a higher cost of each script. */
export const HELPFUL_COMMANDS: readonly string[] = ['fcall', 'function|load']

const isRefused = (error: unknown): error is Error => error instanceof Error && /NOPERM|no permissions/i.test(error.message)

/** Whether the user of the connection may do everything, as far as it can be asked. */
async function isUnrestricted(redis: Redis): Promise<boolean> {
  try {
    const user = await redis.call('acl', 'whoami')
    await redis.call('acl', 'getuser', user as string)
    return true
  } catch (error) {
    return !isRefused(error)
  }
}

async function refusedOf(redis: Redis, commands: readonly (readonly [name: string, args: readonly string[]])[]): Promise<string[]> {
  const refused = await Promise.all(
    commands.map(([name, args]) =>
      redis.call(name, ...args).then(
        () => false,
        (error: unknown) => isRefused(error),
      ),
    ),
  )
  return commands.flatMap(([name], n) => (refused[n] === true ? [name] : []))
}

/** What the user of a connection lacks, and the same in the words of an ACL. */
export interface MissingPermission {
  readonly what: string
  readonly acl: string
}

/**
 * Tries which commands, keys and channels the user of a connection may use; a user that may ask about users may do everything. What scripts do is
 * checked by the same permissions, but their errors do not say which one is missing.
 * @param probe a key, and a channel, of the namespace that do not exist
 * @param replicas how many replicas are waited for: that needs one command more
 */
export async function missingPermission(redis: Redis, probe: string, replicas = 0): Promise<MissingPermission | null> {
  if (await isUnrestricted(redis)) return null
  const pattern = probe.replace(/\/[^/]*$/, '*')
  const answerTo = (name: string, ...args: string[]) => redis.call(name, ...args).then(String, (error: unknown) => String(error))
  if (/NOPERM.*key/i.test(await answerTo('exists', probe))) return { what: 'the keys of the namespace', acl: `~${pattern}` }
  if (/NOPERM.*channel/i.test(await answerTo('publish', probe, ''))) return { what: 'the channels of the namespace', acl: `&${pattern}` }
  const text = `${probe}-text`
  // Without it the commands for a key of another type would make one.
  if (/NOPERM/i.test(await answerTo('set', text, 'x', 'PX', String(TEXT_MS)))) return missingCommands(['set'])
  const tried = Object.entries(PROBES).map(([name, args]) => [name, args.map((arg) => ({ KEY: probe, CHANNEL: probe, TEXT: text })[arg] ?? arg)] as const)
  const others = [...['eval', 'evalsha'].map((name) => [name, ['return 0', '0']] as const), ['multi', []] as const, ['exec', []] as const]
  const waits = replicas > 0 ? ([['wait', ['0', '1']]] as const) : []
  const refused = await refusedOf(redis, [...tried, ...others, ...waits])
  return refused.length === 0 ? null : missingCommands(refused)
}

function missingCommands(names: readonly string[]): MissingPermission {
  return { what: `the commands ${names.join(', ')}`, acl: names.map((name) => `+${name}`).join(' ') }
}

/** @throws REDIS_UNAVAILABLE that names what the user of the connection lacks. @param probe and replicas as in `missingPermission` */
export async function checkPermissions(redis: Redis, probe: string, replicas = 0): Promise<void> {
  const missing = await missingPermission(redis, probe, replicas)
  if (missing !== null) throw new TollgateError('REDIS_UNAVAILABLE', `NOPERM: the user of Redis may not use ${missing.what} (in ACL words ${missing.acl})`)
}
