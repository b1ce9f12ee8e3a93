import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { ownRedis } from '../support/outage.js'
import { Script } from '../support/script.js'
import { until } from '../support/until.js'

const PROCESSES = 3
const LIMIT = 90
const USED_BEFORE = 85
const LIMITS = ['fixed_window', 'sliding_window', 'sliding_log', 'token_bucket'] as const

/** Asks far too often while Redis is away, by a clock of its own, and prints how often it was let in. */
function asks(aheadMs: number): string {
  return `
const real = Date.now
Date.now = () => real() + ${aheadMs}
const tollgate = await Tollgate.open({ namespace: process.env.NAMESPACE, onStoreError: 'local', storeTimeoutMs: 150 })
const until = async (condition) => { while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10)) }
await until(() => tollgate.stats.outage().away)
const passed = {}
for (const agent of ${JSON.stringify(LIMITS)}) {
  const grants = await Promise.all(Array.from({ length: ${LIMIT} }, () => tollgate.gate.admit({ agent })))
  passed[agent] = grants.filter(({ allowed }) => allowed).length
}
process.stderr.write('asked')
await until(() => !tollgate.stats.outage().away && tollgate.stats.outage().owed === 0)
console.log(JSON.stringify(passed))
await tollgate.close()
`
}

test('processes whose clocks differ by an hour stay together within 1.1 times each limit, and all they used is charged', async () => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open({
    rules: LIMITS.map((algorithm) => ({
      name: algorithm,
      scope: 'agent' as const,
      match: { agents: [algorithm] },
      limits: [{ requests: LIMIT, per: 'day', algorithm }],
    })),
  })
  for (const agent of LIMITS) await Promise.all(Array.from({ length: USED_BEFORE }, () => tollgate.gate.admit({ agent })))
  await tollgate.close()
  const environment = { REDIS_URL: server.url, NAMESPACE: namespace.name }
  const scripts = [0, 3_600_000, -3_600_000].map((aheadMs) => new Script(asks(aheadMs), environment))
  await until('all are there', async () => (await namespace.redis.zcard(namespace.keys.members)) === PROCESSES)
  // Each has heard of the others after a second at the latest.
  await sleep(1500)
  server.pause()
  await until('all have asked', () => scripts.every(({ errors }) => errors.includes('asked')))
  server.resume()
  const passed = (await Promise.all(scripts.map((script) => script.result()))) as Record<string, number>[]
  const again = await namespace.open()
  for (const agent of LIMITS) {
    const sum = passed.reduce((all, one) => all + (one[agent] as number), 0)
    // A tenth of the limit, in shares of whole calls.
    expect(sum, agent).toBe(9)
    const [usage] = (await again.gate.peek({ agent })).usage
    // A bucket fills a little meanwhile.
    expect(usage?.used, agent).toBeCloseTo(USED_BEFORE + sum, 0)
  }
})
