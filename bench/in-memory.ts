import { MemoryStore, Tollgate } from '../src/index.js'
import { atLeast, type Figure, median } from './lib/measure.js'
import { ROOMY } from './lib/peers.js'

const CHECKS = 500_000
const WARM_UP = 2
const ROUNDS = 7
const USERS = Array.from({ length: 100 }, (_, index) => `u${index}`)

/** The rate of checks of one process whose limits are in its memory: one limit, 100 users, one check after the other. */
export async function inMemory(): Promise<Figure[]> {
  // A given store: REDIS_URL is not used.
  const tollgate = await Tollgate.open({ store: new MemoryStore() })
  const limiter = tollgate.limiter({ requests: ROOMY, per: 'minute' })
  const rates: number[] = []
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    const begin = performance.now()
    for (let index = 0; index < CHECKS; index++) {
      const { allowed } = await limiter.check(USERS[index % USERS.length] as string)
      if (!allowed) throw new Error('the benchmark reached its limit')
    }
    if (round >= 0) rates.push(CHECKS / ((performance.now() - begin) / 1000))
  }
  await tollgate.close()
  return [
    atLeast('checks a second in memory, one limit', Math.round(median(rates)), 1_000_000, `median of ${ROUNDS} × ${CHECKS.toLocaleString('en')}; 100 users`),
  ]
}
