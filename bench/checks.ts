import { Redis } from 'ioredis'
import { RateLimiterRedis } from 'rate-limiter-flexible'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { atLeast, type Figure, median } from './lib/measure.js'
import { inNamespaces, OTHER_KEYS } from './lib/namespace.js'

const AT_ONCE = 50
const CHECKS = 20_000
const ROUNDS = 5
const ROOMY = 1e12
const ONE = 'bench-one'
const NINE = 'bench-nine'

/** Checks per second, with so many under way at any time. */
async function rate(checks: number, check: (index: number) => Promise<unknown>): Promise<number> {
  let next = 0
  const begin = performance.now()
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (next < checks) await check(next++)
    }),
  )
  return checks / ((performance.now() - begin) / 1000)
}

/** One contender after the other, several times over, so that what disturbs the machine disturbs all. */
async function compare(contenders: Record<string, (index: number) => Promise<unknown>>, checks: number): Promise<Record<string, number>> {
  const rates: Record<string, number[]> = {}
  for (const check of Object.values(contenders)) await rate(checks / 10, check)
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, check] of Object.entries(contenders)) {
      const of = rates[name] ?? []
      of.push(await rate(checks, check))
      rates[name] = of
    }
  }
  return Object.fromEntries(Object.entries(rates).map(([name, of]) => [name, median(of)]))
}

const THREE = (unit: 'requests'): RuleSpec['limits'] => ['minute', 'hour', 'day'].map((per) => ({ [unit]: ROOMY, per, algorithm: 'fixed_window' as const }))

/** What a check costs, against the bare minimum and against a peer. */
export function checks(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [ONE, NINE], () => measure(redis))
}

async function measure(redisUrl: string): Promise<Figure[]> {
  const redis = new Redis(redisUrl)
  const sha = (await redis.script('LOAD', "return redis.call('INCR', KEYS[1])")) as string
  const one = await Tollgate.open({
    redis: redisUrl,
    namespace: ONE,
    rules: [{ name: 'user', scope: 'user', limits: [{ requests: ROOMY, per: 'minute' }] }],
  })
  const nine = await Tollgate.open({
    redis: redisUrl,
    namespace: NINE,
    rules: (['user', 'team', 'org'] as const).map((scope) => ({ name: scope, scope, limits: THREE('requests') })),
  })
  const users = Array.from({ length: 100 }, (_, index) => `u${index}`)
  const userOf = (index: number) => users[index % users.length] as string

  const single = await compare(
    {
      bare: (index) => redis.evalsha(sha, 1, `${OTHER_KEYS}${userOf(index)}`),
      tollgate: async (index) => {
        const grant = await one.gate.admit({ agent: 'a', user: userOf(index) })
        if (!grant.allowed) throw new Error('the benchmark reached its limit')
      },
    },
    CHECKS,
  )

  const whom = (index: number) => ({ user: `u${index % 100}`, team: `t${index % 10}`, org: `o${index % 3}` })
  const limiters = (['user', 'team', 'org'] as const).flatMap((scope) =>
    [60, 3600, 86_400].map((duration) => ({
      scope,
      limiter: new RateLimiterRedis({ storeClient: redis, keyPrefix: `${OTHER_KEYS}${scope}:${duration}`, points: Number.MAX_SAFE_INTEGER, duration }),
    })),
  )
  const many = await compare(
    {
      'rate-limiter-flexible': (index) => {
        const scopes = whom(index)
        return Promise.all(limiters.map(({ scope, limiter }) => limiter.consume(scopes[scope])))
      },
      tollgate: async (index) => {
        const grant = await nine.gate.admit({ agent: 'a', ...whom(index) })
        if (!grant.allowed || grant.usage.length !== 9) throw new Error('the benchmark reached its limit')
      },
    },
    CHECKS / 4,
  )
  await Promise.all([one.close(), nine.close(), redis.quit()])
  const per = (value: number | undefined) => Math.round(value ?? Number.NaN).toLocaleString('en')
  return [
    atLeast(
      `one check, one limit, ${AT_ONCE} at a time, against a bare EVALSHA of INCR`,
      (single['tollgate'] ?? 0) / (single['bare'] ?? 1),
      0.7,
      `${per(single['tollgate'])} against ${per(single['bare'])} a second, median of ${ROUNDS}`,
    ),
    atLeast(
      '3 scopes × 3 limits in one check, against rate-limiter-flexible doing the same nine',
      (many['tollgate'] ?? 0) / (many['rate-limiter-flexible'] ?? 1),
      4,
      `${per(many['tollgate'])} against ${per(many['rate-limiter-flexible'])} a second, median of ${ROUNDS}`,
    ),
  ]
}
