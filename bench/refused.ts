import { Redis } from 'ioredis'
import { atMost, type Figure, notMeasured } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'
import { ROOMY } from './lib/peers.js'

const NAMESPACE = 'bench-refused'
const CHECKS = 1000
const WHAT = `write commands that Redis ran for ${CHECKS.toLocaleString('en')} refused checks`
const BAR = 0
/** The commands of the heartbeat that each process writes every second; checks of these limits use none of them. */
const HEARTBEAT: ReadonlySet<string> = new Set(['zremrangebyscore', 'zrem', 'zadd', 'pexpire'])
/** Eight limits with room, and one that a single check uses up. */
const LIMITS = [
  ...['second', 'minute', 'hour', 'day'].flatMap((per) => [
    { requests: ROOMY, per },
    { tokens: ROOMY, per },
  ]),
  { requests: 1, per: '366d' },
]

/**
 * Whether a refused check writes anything: the calls that INFO commandstats counts, those of
 * scripts included, of commands that Redis flags as writing. It counts for the whole server:
 * on a Redis in other use, the figure includes other writes. The control is as many allowed
 * checks, which have to write.
 */
export function refused(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], async () => [await measure(redis)])
}

async function measure(url: string): Promise<Figure> {
  const tollgate = await openHere({ redis: url, namespace: NAMESPACE, rules: [{ name: 'user', scope: 'user', limits: LIMITS }] })
  const redis = new Redis(url)
  const admit = async (users: readonly string[], allowed: boolean) => {
    const grants = await Promise.all(users.map((user) => tollgate.gate.admit({ agent: 'a', user, cost: { tokens: 1 } })))
    const others = grants.filter((grant) => grant.allowed !== allowed || grant.usage.length !== LIMITS.length)
    if (others.length > 0)
      throw new Error(`${others.length} of ${users.length} checks were not ${allowed ? 'allowed' : 'refused'} under ${LIMITS.length} limits`)
  }
  const half = CHECKS / 2
  const writesOf = async (users: readonly string[], allowed: boolean) => {
    const before = await calls(redis)
    await admit(users.slice(0, half), allowed)
    for (const user of users.slice(half)) await admit([user], allowed)
    return writes(redis, before, await calls(redis))
  }
  await admit(['full'], true)
  const whenRefused = await writesOf(
    Array.from({ length: CHECKS }, () => 'full'),
    false,
  )
  const whenAllowed = await writesOf(
    Array.from({ length: CHECKS }, (_, index) => `u${index}`),
    true,
  )
  redis.disconnect()
  const listed = (counted: ReadonlyMap<string, number>) => [...counted].map(([name, count]) => `${name} ${count.toLocaleString('en')}`).join(', ')
  if (whenAllowed.size === 0) return notMeasured(WHAT, `≤ ${BAR}`, 'the control, checks that passed, wrote nothing, either')
  const total = [...whenRefused.values()].reduce((sum, count) => sum + count, 0)
  return atMost(
    WHAT,
    total,
    BAR,
    `${total === 0 ? '' : `${listed(whenRefused)}; `}nine limits, one used up, half of them at once, half one by one; control: as many that passed wrote ${listed(whenAllowed)}`,
  )
}

/** How often each command was called since the server started. */
async function calls(redis: Redis): Promise<Map<string, number>> {
  const stats = (await redis.info('commandstats')).matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)
  return new Map([...stats].map(([, name, count]) => [name as string, Number(count)]))
}

/** The writing commands that were called in between, with their numbers of calls. */
async function writes(redis: Redis, before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): Promise<Map<string, number>> {
  const called = [...after]
    .map(([name, count]) => [name, count - (before.get(name) ?? 0)] as const)
    .filter(([name, count]) => count > 0 && !HEARTBEAT.has(name))
  const about = (await redis.command('INFO', ...called.map(([name]) => name))) as ([name: string, arity: number, flags: string[]] | null)[]
  const unknown = called.filter((_, index) => about[index] === null).map(([name]) => name)
  if (unknown.length > 0) throw new Error(`Redis does not know whether ${unknown.join(', ')} write`)
  return new Map(called.filter((_, index) => about[index]?.[2].includes('write')))
}
