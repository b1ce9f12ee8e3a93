import { Tollgate } from '../src/index.js'
import { AT_ONCE, best, compare, perSecond, ROUNDS } from './lib/compare.js'
import { atLeast, type Figure } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { bottleneck, closePeers, flexible, overEach, peerClients, ROOMY, upstash } from './lib/peers.js'

const NAMESPACE = 'bench-peers'
const KEYS = 100
const MINUTE_S = 60

/**
 * One limit per key, per minute, that nobody reaches, for 100 keys: Tollgate's default
 * algorithm against what others have for it. All run against the same Redis in the same
 * process; how each is set up is said in lib/peers.ts. The best of them counts.
 */
export function peers(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], async () => [await measure(redis)])
}

async function measure(redis: string): Promise<Figure> {
  const rules = [{ name: 'user', scope: 'user', limits: [{ requests: ROOMY, per: 'minute' }] }]
  const tollgate = await Tollgate.open({ redis, namespace: NAMESPACE, rules })
  const clients = peerClients(redis)
  const closers: (() => Promise<void>)[] = [() => tollgate.close()]
  const keyOf = (index: number) => `u${index % KEYS}`
  const each = (limiter: (key: string) => Promise<unknown>) => (index: number) => limiter(keyOf(index))
  const { tollgate: ours, ...theirs } = await compare({
    ...overEach(clients, {
      'rate-limiter-flexible': (client) => each(flexible(client, 'user', MINUTE_S)),
      'upstash token bucket': (client) => each(upstash(client, 'user', 'token bucket', MINUTE_S)),
      'upstash fixed window': (client) => each(upstash(client, 'user', 'fixed window', MINUTE_S)),
      bottleneck: (client) => {
        const { limiter, close } = bottleneck(client, `user${closers.length}`)
        closers.push(close)
        return each(limiter)
      },
    }),
    tollgate: async (index: number) => {
      const grant = await tollgate.gate.admit({ agent: 'a', user: keyOf(index) })
      if (!grant.allowed) throw new Error('the benchmark reached its limit')
    },
  })
  await Promise.all(closers.map((close) => close()))
  await closePeers(clients)
  const peer = best(theirs)
  return atLeast(
    `one limit, ${AT_ONCE} at a time, ${KEYS} keys, against the best of the peers`,
    ours / peer.rate,
    1.5,
    `${perSecond(ours)} a second against ${peer.all}, medians of ${ROUNDS}`,
  )
}
