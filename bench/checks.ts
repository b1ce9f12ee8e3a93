import { Redis } from 'ioredis'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { AT_ONCE, best, compare, perSecond, ROUNDS } from './lib/compare.js'
import { atLeast, type Figure } from './lib/measure.js'
import { inNamespaces, OTHER_KEYS } from './lib/namespace.js'
import { closePeers, flexible, type Limiter, overEach, peerClients, ROOMY, upstash } from './lib/peers.js'

const ONE = 'bench-one'
const NINE = 'bench-nine'
const SCOPES = ['user', 'team', 'org'] as const
const PERIODS = { minute: 60, hour: 3600, day: 86_400 }

/**
 * What a check costs: one limit against the least a round trip to a script can cost, and
 * nine against the peers' nine. Theirs are fixed windows, so ours are; they are asked all at
 * once, over a connection as each is faster (lib/peers.ts). Bottleneck is left to the
 * benchmark of the peers: it has no check of several limits.
 */
export function checks(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [ONE, NINE], async () => [await oneLimit(redis), await nineLimits(redis)])
}

async function oneLimit(redisUrl: string): Promise<Figure> {
  const redis = new Redis(redisUrl)
  const sha = (await redis.script('LOAD', "return redis.call('INCR', KEYS[1])")) as string
  const tollgate = await Tollgate.open({
    redis: redisUrl,
    namespace: ONE,
    rules: [{ name: 'user', scope: 'user', limits: [{ requests: ROOMY, per: 'minute' }] }],
  })
  const userOf = (index: number) => `u${index % 100}`
  const rates = await compare({
    bare: (index) => redis.evalsha(sha, 1, `${OTHER_KEYS}${userOf(index)}`),
    tollgate: async (index) => {
      const grant = await tollgate.gate.admit({ agent: 'a', user: userOf(index) })
      if (!grant.allowed) throw new Error('the benchmark reached its limit')
    },
  })
  await Promise.all([tollgate.close(), redis.quit()])
  return atLeast(
    `one check, one limit, ${AT_ONCE} at a time, against a bare EVALSHA of INCR`,
    rates.tollgate / rates.bare,
    0.9,
    `${perSecond(rates.tollgate)} against ${perSecond(rates.bare)} a second, medians of ${ROUNDS}`,
  )
}

async function nineLimits(redis: string): Promise<Figure> {
  const rules = SCOPES.map(
    (scope): RuleSpec => ({
      name: scope,
      scope,
      limits: Object.keys(PERIODS).map((per) => ({ requests: ROOMY, per, algorithm: 'fixed_window' })),
    }),
  )
  const tollgate = await Tollgate.open({ redis, namespace: NINE, rules })
  const whom = (index: number) => ({ user: `u${index % 100}`, team: `t${index % 10}`, org: `o${index % 3}` })
  const all = (limiter: (name: string, seconds: number) => Limiter) => {
    const limiters = SCOPES.flatMap((scope) => Object.values(PERIODS).map((seconds) => ({ scope, ask: limiter(`${scope}:${seconds}`, seconds) })))
    return (index: number) => {
      const scopes = whom(index)
      return Promise.all(limiters.map(({ scope, ask }) => ask(scopes[scope])))
    }
  }
  const clients = peerClients(redis)
  const contenders = overEach(clients, {
    'rate-limiter-flexible': (client) => all((name, seconds) => flexible(client, name, seconds)),
    upstash: (client) => all((name, seconds) => upstash(client, name, 'fixed window', seconds)),
  })
  const { tollgate: ours, ...theirs } = await compare({
    ...contenders,
    tollgate: async (index: number) => {
      const grant = await tollgate.gate.admit({ agent: 'a', ...whom(index) })
      if (!grant.allowed || grant.usage.length !== 9) throw new Error('the benchmark reached its limit')
    },
  })
  await Promise.all([tollgate.close(), closePeers(clients)])
  const peer = best(theirs)
  return atLeast(
    '3 scopes × 3 limits in one check, against the best peer doing the same nine',
    ours / peer.rate,
    5,
    `${perSecond(ours)} a second against ${peer.all}, medians of ${ROUNDS}`,
  )
}
