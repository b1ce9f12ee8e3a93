import { AT_ONCE, best, perSecond, ROUNDS } from './lib/compare.js'
import { compareProcesses, overEach } from './lib/contenders.js'
import { atLeast, type Figure } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'

const ONE = 'bench-one'
const NINE = 'bench-nine'

/**
 * What a check costs: one limit against the least that a script on a key can cost, and nine
 * against the peers' nine, all fixed windows (contender-process.ts). Bottleneck is left to
 * the benchmark of the peers: it has no check of several limits.
 */
export function checks(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [ONE, NINE], async () => [await oneLimit(redis), await nineLimits(redis)])
}

async function oneLimit(redis: string): Promise<Figure> {
  const rates = await compareProcesses({ redis, namespace: ONE, limits: 1 }, { bare: { contender: 'bare' }, tollgate: { contender: 'tollgate' } })
  return atLeast(
    `one check, one limit, ${AT_ONCE} at a time, against a bare EVALSHA of INCR`,
    rates.tollgate / rates.bare,
    0.9,
    `${perSecond(rates.tollgate)} against ${perSecond(rates.bare)} a second, medians of ${ROUNDS}`,
  )
}

async function nineLimits(redis: string): Promise<Figure> {
  const { tollgate, ...peers } = await compareProcesses(
    { redis, namespace: NINE, limits: 9 },
    { ...overEach(['rate-limiter-flexible', 'upstash fixed window']), tollgate: { contender: 'tollgate' } },
  )
  const peer = best(peers)
  return atLeast(
    '3 scopes × 3 limits in one check, against the best peer doing the same nine',
    tollgate / peer.rate,
    5,
    `${perSecond(tollgate)} a second against ${peer.all}, medians of ${ROUNDS}`,
  )
}
