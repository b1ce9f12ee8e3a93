import { expect, test } from 'vitest'
import type { AdmissionRequest } from '../../src/admission/request.js'
import type { GivenClock, RuleSpec } from '../../src/index.js'
import { NOTHING } from '../../src/model/cost.js'
import { GivenClock as Clock } from '../../src/model/time.js'
import { RedisStore, type RedisStoreOptions } from '../../src/store/redis/redis-store.js'
import { ScriptClient } from '../../src/store/redis/script-client.js'
import { forget } from '../support/keys.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { ownRedis } from '../support/outage.js'
import { requestOf, resolverOf, T0 } from '../support/script-client.js'

const RULES: RuleSpec[] = [
  { name: 'user', scope: 'user', limits: [{ requests: 5, per: 'minute', algorithm: 'fixed_window' }] },
  { name: 'org', scope: 'org', limits: [{ requests: 100, per: 'minute', algorithm: 'fixed_window' }] },
]

/** Counts how many calls each script decided on, in each script call. */
class CountingClient extends ScriptClient {
  readonly sent: string[] = []

  override checkSums(...args: Parameters<ScriptClient['checkSums']>) {
    this.sent.push(`sums of ${args[0].size}`)
    return super.checkSums(...args)
  }
  override decideEach(...args: Parameters<ScriptClient['decideEach']>) {
    this.sent.push(`each of ${args[1].length}`)
    return super.decideEach(...args)
  }
}

function storeOf(namespace: Namespace, options?: RedisStoreOptions): { store: RedisStore; client: CountingClient; clock: GivenClock } {
  const clock = new Clock(T0)
  const client = new CountingClient(namespace.redis, resolverOf(namespace, RULES), clock)
  return { store: new RedisStore(client, namespace.redis, clock, options), client, clock }
}

function checkOf(client: ScriptClient, user: string): AdmissionRequest {
  return { id: '', token: '', call: {}, ...client.resolver.resolve({ agent: 'a', org: 'o', user }, { ...NOTHING, requests: 1 }) }
}

async function admitAll({ store, client }: Pick<ReturnType<typeof storeOf>, 'store' | 'client'>, users: readonly string[]): Promise<string[]> {
  const admissions = await Promise.all(users.map((user) => store.admit(checkOf(client, user))))
  return admissions.map(({ decision }, index) => `${users[index]} ${decision.outcome}`)
}

test('checks of one turn are decided on sums in one script call; near a limit only the calls that meet it are decided one by one', async () => {
  const place = storeOf(newNamespace())
  const { client } = place
  expect(await admitAll(place, ['u', 'v', 'u', 'w'])).toEqual(['u run', 'v run', 'u run', 'w run'])
  expect(client.sent.splice(0)).toEqual(['sums of 4'])
  // Four more of u do not fit: nothing is charged on sums, and the first three of u pass, in their order.
  expect(await admitAll(place, ['u', 'u', 'v', 'u', 'u'])).toEqual(['u run', 'u run', 'v run', 'u run', 'u reject'])
  expect(client.sent.splice(0)).toEqual(['sums of 5', 'each of 5'])
  expect(await admitAll(place, ['u', 'v', 'w', 'u'])).toEqual(['u reject', 'v run', 'w run', 'u reject'])
  expect(client.sent.splice(0)).toEqual(['sums of 2', 'each of 2'])
  // Most of a batch is tight: one script call is cheaper.
  expect(await admitAll(place, ['u', 'v', 'u'])).toEqual(['u reject', 'v run', 'u reject'])
  expect(client.sent.splice(0)).toEqual(['each of 3'])
})

test('a meter that was tight is tried on sums again after 64 batches', async () => {
  const place = storeOf(newNamespace())
  await admitAll(place, ['u', 'u', 'u', 'u', 'u', 'u'])
  place.clock.advance(60_000)
  place.client.sent.length = 0
  for (let batch = 0; batch < 64; batch++) await admitAll(place, [batch % 2 === 0 ? 'u' : 'v'])
  expect(place.client.sent.slice(0, 2)).toEqual(['each of 1', 'sums of 1'])
  place.clock.advance(60_000)
  expect(await admitAll(place, ['u'])).toEqual(['u run'])
  expect(place.client.sent.at(-1)).toBe('sums of 1')
})

test('while calls stand in line, sums are tried ever more rarely', async () => {
  const namespace = newNamespace()
  const place = storeOf(namespace)
  const { client } = place
  await client.enqueue(
    [requestOf(client, 'big', { agent: 'a', user: 'x', cost: { requests: 5 } }), requestOf(client, 'waits', { agent: 'a', user: 'x' })],
    'calls',
  )
  for (let batch = 0; batch < 200; batch++) await admitAll(place, [`v${batch % 50}`])
  expect(client.sent.filter((sent) => sent === 'each of 1')).toHaveLength(200)
  expect(client.sent.filter((sent) => sent === 'sums of 1').length).toBeLessThan(10)
  await forget(namespace)
})

test('decideOnSums: false decides on each call by itself, with the same answers', async () => {
  const place = storeOf(newNamespace(), { decideOnSums: false })
  expect(await admitAll(place, ['u', 'v', 'u', 'w', 'u', 'u', 'u', 'u'])).toEqual(['u run', 'v run', 'u run', 'w run', 'u run', 'u run', 'u run', 'u reject'])
  expect(place.client.sent).toEqual(['each of 8'])
})

test('the ledger entries of calls that were decided on sums are settled and released like any other', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'user', scope: 'user', limits: [{ tokens: 1000, per: 'hour', algorithm: 'fixed_window' }] }] })
  const call = { agent: 'a', user: 'u', cost: { tokens: 100 } }
  const [first, second, third] = await Promise.all([
    tollgate.gate.admit(call),
    tollgate.gate.admit(call),
    tollgate.gate.admit({ ...call, cost: { tokens: 50 } }),
  ])
  expect(first?.usage[0]?.used).toBe(250)
  expect(await first?.settle({ tokens: 40 })).toBe(true)
  expect(await second?.release()).toBe(true)
  expect(await third?.settle({ tokens: 60 })).toBe(true)
  expect((await tollgate.gate.peek(call)).usage[0]?.used).toBe(100)
  expect(await tollgate.stats.ledger()).toMatchObject({ open: 0, settled: 2, released: 1 })
})

test.each([true, false])('a worker with decideOnSums: %s charges and settles what it runs', async (decideOnSums) => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({
    decideOnSums,
    rules: [
      {
        name: 'user',
        scope: 'user',
        limits: [
          { tokens: 100_000, per: 'hour' },
          { name: 'w', tokens: 100_000, per: 'hour', algorithm: 'fixed_window' },
        ],
      },
    ],
  })
  const tickets = await tollgate.enqueueMany(Array.from({ length: 40 }, () => ({ agent: 'a', user: 'u', cost: { tokens: 100 } })))
  tollgate.worker(async () => ({ usage: { tokens: 10 } }), { concurrency: 10 })
  await Promise.all(tickets.map((ticket) => ticket.result()))
  await expect.poll(async () => (await tollgate.stats.ledger()).settled, { timeout: 10_000 }).toBe(40)
  expect((await tollgate.gate.peek({ agent: 'a', user: 'u' })).usage.find(({ limit }) => limit === 'w')?.used).toBe(400)
})

test.each([true, false])('a charge waits for the replicas that are needed, decided on by sums: %s', async (decideOnSums) => {
  const { namespace } = await ownRedis()
  const rules: RuleSpec[] = [{ name: 'r', scope: 'agent', limits: [{ requests: 100, per: 'hour' }] }]
  const declaring = await namespace.open({ rules })
  // This Redis has no replica: what it has charged would be lost with it.
  const careful = await namespace.open({ replicas: 1, onStoreError: 'closed', decideOnSums, storeTimeoutMs: 2000 })
  const grants = await Promise.all([1, 2, 3].map(() => careful.gate.admit({ agent: 'llm' })))
  expect(grants.map(({ allowed }) => allowed)).toEqual([false, false, false])
  expect(grants[0]?.decision).toMatchObject({ outcome: 'reject', reason: 'unavailable' })
  await declaring.close()
})
