import { AT_ONCE, best, perSecond, ROUNDS } from './lib/compare.js'
import { compareProcesses, overEach } from './lib/contenders.js'
import { atLeast, type Figure } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'

const NAMESPACE = 'bench-peers'

/**
 * One limit per user and minute that no user reaches, for 100 users: a limiter with Tollgate's
 * default algorithm, against the best of other libraries on the same Redis (lib/peers.ts has
 * their settings).
 */
export function peers(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], async () => [await measure(redis)])
}

async function measure(redis: string): Promise<Figure> {
  const { tollgate, ...others } = await compareProcesses(
    { redis, namespace: NAMESPACE, limits: 1 },
    { ...overEach(['rate-limiter-flexible', 'upstash fixed window', 'upstash token bucket', 'bottleneck']), tollgate: { contender: 'tollgate' } },
  )
  const peer = best(others)
  return atLeast(
    `one limit, ${AT_ONCE} at a time, 100 keys, against the best of the peers`,
    tollgate / peer.rate,
    1.5,
    `${perSecond(tollgate)} a second against ${peer.all}, medians of ${ROUNDS}`,
  )
}
