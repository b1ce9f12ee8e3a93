import { AT_ONCE, best, perSecond, ROUNDS } from './lib/compare.js'
import { compareProcesses, overEach } from './lib/contenders.js'
import { atLeast, type Figure } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'

const ONE = 'bench-one'
const NINE = 'bench-nine'

/**
 * The rate of checks: one limit, against a bare script that increments one key; and nine limits,
 * against the peers' nine, all fixed windows (contender-process.ts). Peers check by key, as a
 * limiter does; under rules a call is also validated, matched and entered in the ledger.
 * Bottleneck is in the benchmark `peers` only: it has no check of several limits.
 */
export function checks(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [ONE, NINE], async () => [...(await oneLimit(redis)), ...(await nineLimits(redis))])
}

const OURS = { tollgate: { contender: 'tollgate' }, rules: { contender: 'rules' } } as const
const WAYS = [
  ['tollgate', 'by key'],
  ['rules', 'by rules, with an entry in the ledger'],
] as const

async function oneLimit(redis: string): Promise<Figure[]> {
  const rates = await compareProcesses({ redis, namespace: ONE, limits: 1 }, { bare: { contender: 'bare' }, ...OURS })
  return WAYS.map(([ours, how]) =>
    atLeast(
      `one check, one limit, ${AT_ONCE} at a time, ${how}, against a bare EVALSHA of INCR`,
      rates[ours] / rates.bare,
      0.9,
      `${perSecond(rates[ours])} against ${perSecond(rates.bare)} a second, medians of ${ROUNDS}`,
    ),
  )
}

async function nineLimits(redis: string): Promise<Figure[]> {
  const { tollgate, rules, ...peers } = await compareProcesses(
    { redis, namespace: NINE, limits: 9 },
    { ...overEach(['rate-limiter-flexible', 'upstash fixed window']), ...OURS },
  )
  const peer = best(peers)
  const rates = { tollgate, rules }
  return WAYS.map(([ours, how]) =>
    atLeast(
      `3 scopes × 3 limits in one check, ${how}, against the best peer doing the same nine`,
      rates[ours] / peer.rate,
      5,
      `${perSecond(rates[ours])} a second against ${peer.all}, medians of ${ROUNDS}`,
    ),
  )
}
