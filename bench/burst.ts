import { atMost, type Figure, median, percentile } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'
import { ROOMY } from './lib/peers.js'

const NAMESPACE = 'bench-burst'
const CHECKS = 1000
const SINGLES = 200
const WARM_UP = 20
const ROUNDS = 21

/**
 * The latency of 1,000 checks of different users in one turn of the event loop: their 95th
 * percentile, against the median of single checks, each sent when the one before was answered.
 * Both use one connection; a round is a burst, then the singles.
 */
export function burst(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], async () => [await measure(redis)])
}

async function measure(redis: string): Promise<Figure> {
  const tollgate = await openHere({ redis, namespace: NAMESPACE })
  const limiter = tollgate.limiter({ requests: ROOMY, per: 'minute' })
  const timed = async (user: number) => {
    const begin = performance.now()
    const answer = await limiter.check(`u${user}`)
    const took = performance.now() - begin
    if (!answer.allowed) throw new Error('the benchmark reached its limit')
    return took
  }
  const together: number[] = []
  const alone: number[] = []
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    const all = await Promise.all(Array.from({ length: CHECKS }, (_, user) => timed(user)))
    const singles: number[] = []
    for (let user = 0; user < SINGLES; user++) singles.push(await timed(user))
    if (round < 0) continue
    together.push(percentile(all, 0.95))
    alone.push(median(singles))
  }
  const p95 = median(together)
  const p50 = median(alone)
  return atMost(
    `${CHECKS.toLocaleString('en')} checks at once: 95th percentile of their latencies, against the median of single checks`,
    p95 / p50,
    25,
    `${p95.toFixed(2)} ms against ${p50.toFixed(3)} ms, medians of ${ROUNDS}`,
  )
}
