import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, onTestFinished, test } from 'vitest'
import type { AdmissionRequest } from '../../src/admission/request.js'
import type { Resolver } from '../../src/admission/resolver.js'
import type { LimitSpec, RuleSpec } from '../../src/index.js'
import { NAMED_ALGORITHMS } from '../../src/limits/algorithms.js'
import { NOTHING } from '../../src/model/cost.js'
import { GivenClock, redisClock } from '../../src/model/time.js'
import { MemoryStore } from '../../src/store/memory/memory-store.js'
import { RedisStore } from '../../src/store/redis/redis-store.js'
import { ScriptClient } from '../../src/store/redis/script-client.js'
import { newNamespace } from '../support/namespace.js'
import { startRedis } from '../support/redis-server.js'
import { resolverOf, T0 } from '../support/script-client.js'
import { until } from '../support/until.js'

/** One limit of each algorithm, of a second's window. */
const LIMITS: LimitSpec[] = NAMED_ALGORITHMS.map((algorithm) => ({ name: algorithm, requests: 5, per: 'second', algorithm }))
const RULES: RuleSpec[] = [{ name: 'user', scope: 'user', limits: [...LIMITS, { concurrency: 3, lease: '1s' }] }]

function requestOf(resolver: Resolver, user: number): AdmissionRequest {
  return { id: `~/${user}`, token: '', call: {}, ...resolver.resolve({ agent: 'a', user: `u${user}` }, { ...NOTHING, requests: 1 }), forGood: true }
}

/** Bytes of the heap in use after a garbage collection. */
function heapUsed(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().heapUsed
}

test('a million users come and go, and the store in memory keeps only the latest of them', () => {
  const namespace = newNamespace()
  const resolver = resolverOf(namespace, [
    {
      name: 'user',
      scope: 'user',
      limits: [
        { requests: 5, per: 'second' },
        { name: 'w', requests: 5, per: 'second', algorithm: 'sliding_window' },
      ],
    },
  ])
  const clock = new GivenClock(T0)
  const store = new MemoryStore(() => clock.nowMs)
  let admitted = 0
  let early = 0
  let largest = 0
  for (let user = 0; user < 1_000_000; user++) {
    // 10,000 users a second with windows of a second: about so many meters are in use at once.
    clock.nowMs = T0 + user / 10
    if (store.admit(requestOf(resolver, user)).decision.outcome === 'run') admitted++
    largest = Math.max(largest, store.size)
    if (user === 200_000) early = heapUsed()
  }
  expect(admitted).toBe(1_000_000)
  expect(largest).toBeLessThan(60_000)
  expect(heapUsed()).toBeLessThan(early + 30e6)
  clock.advance(10_000)
  for (let user = 0; user < 60_000; user++) store.admit(requestOf(resolver, user % 10))
  for (let user = 0; user < 60_000; user++) {
    clock.nowMs += 0.5
    store.admit(requestOf(resolver, user))
  }
  expect(store.size, 'the store shrinks as later users come').toBeLessThan(15_000)
})

test('a hundred thousand users leave nothing in Redis once their windows are over', { timeout: 60_000 }, async () => {
  const server = await startRedis()
  onTestFinished(() => server.stop())
  const namespace = newNamespace(server.url)
  // Without AOF, deleting expired keys does not wait for the disk.
  await namespace.redis.config('SET', 'appendonly', 'no')
  const resolver = resolverOf(namespace, RULES)
  const store = new RedisStore(new ScriptClient(namespace.redis, resolver, redisClock), namespace.redis, redisClock)
  let largest = 0
  for (let user = 0; user < 100_000; ) {
    const some: Promise<unknown>[] = []
    for (const last = user + 5000; user < last; user++) some.push(store.admit(requestOf(resolver, user)))
    await Promise.all(some)
    largest = Math.max(largest, await namespace.redis.dbsize())
  }
  expect(largest).toBeGreaterThan(5000)
  await until('Redis is empty', async () => (await namespace.redis.dbsize()) === 0, 20_000)
})
