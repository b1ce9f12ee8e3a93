import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import type { RuleSpec, Tollgate } from '../../src/index.js'
import { GivenClock } from '../../src/model/time.js'
import { ownRedis, untilAway, untilBack } from '../support/outage.js'
import { SlowProxy } from '../support/slow-proxy.js'
import { until } from '../support/until.js'

const CALL = { agent: 'llm', cost: { tokens: 10 } }
const RULES: RuleSpec[] = [
  {
    name: 'r',
    scope: 'agent',
    limits: [
      { requests: 100_000, per: 'hour', algorithm: 'fixed_window' },
      { concurrency: 5000, lease: '10m' },
    ],
  },
]
const QUICK = { storeTimeoutMs: 150, rules: RULES, onStoreError: 'local' } as const

async function used(tollgate: Tollgate): Promise<number[]> {
  return (await tollgate.gate.peek(CALL)).usage.map((one) => one.used)
}

test('calls that were on their way when Redis stood still are answered at once, and charged once', async () => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open(QUICK)
  const limiter = tollgate.limiter({ requests: 100_000, per: 'hour', algorithm: 'fixed_window' })
  server.pause()
  // All of them travel in more than one batch: some are sent and unanswered, others never sent.
  const [grants, checks] = await Promise.all([
    Promise.all(Array.from({ length: 300 }, () => tollgate.gate.admit(CALL))),
    Promise.all(Array.from({ length: 300 }, () => limiter.check('k'))),
  ])
  const letIn = checks.filter(({ allowed }) => allowed).length
  expect(letIn).toBe(300)
  const running = grants.filter(({ allowed }) => allowed)
  // No slot is known to be free.
  expect(running).toHaveLength(0)
  server.resume()
  await untilBack(tollgate)
  expect(await used(tollgate)).toEqual([0, 0])
  expect((await limiter.peek('k')).usage[0]?.used).toBe(300)
})

test('a call that is let in here, and in Redis too late, is charged once and settled once', async () => {
  const { server, namespace } = await ownRedis()
  const rules: RuleSpec[] = [{ name: 'r', scope: 'agent', limits: [{ tokens: 100_000, per: 'hour', algorithm: 'fixed_window' }] }]
  const tollgate = await namespace.open({ ...QUICK, rules })
  server.pause()
  const mine = { ...CALL, id: 'mine' }
  const [early, late, own] = await Promise.all([tollgate.gate.admit(CALL), tollgate.gate.admit(CALL), tollgate.gate.admit(mine)])
  expect([early.allowed, late.allowed, own.allowed]).toEqual([true, true, true])
  expect(await early.settle({ tokens: 3 })).toBe(true)
  server.resume()
  await untilBack(tollgate)
  expect(await used(tollgate)).toEqual([23])
  expect(await late.settle({ tokens: 4 })).toBe(true)
  expect(await tollgate.gate.settle(mine, { tokens: 5 })).toBe(true)
  expect(await used(tollgate)).toEqual([12])
  expect(await tollgate.stats.ledger()).toMatchObject({ open: 0 })
})

test('ends that come while the reports of their calls are on their way to a Redis that had no memory left close their entries', async () => {
  const { server, namespace } = await ownRedis()
  const proxy = await SlowProxy.start(server.url)
  onTestFinished(() => proxy.stop())
  const rules: RuleSpec[] = [{ name: 'r', scope: 'agent', limits: [{ requests: 100_000, per: 'hour', algorithm: 'fixed_window' }] }]
  const open = { ...QUICK, storeTimeoutMs: 2000, rules }
  const [tollgate, other] = [await namespace.open({ ...open, redis: proxy.url }), await namespace.open(open)]
  await namespace.redis.config('SET', 'maxmemory', '1')
  await untilAway(tollgate)
  // More than one report has room for.
  const grants = await Promise.all(Array.from({ length: 350 }, () => tollgate.gate.admit(CALL)))
  expect(grants.every(({ allowed }) => allowed)).toBe(true)
  proxy.delayMs = 200
  await namespace.redis.config('SET', 'maxmemory', '0')
  await until('the first report is taken', async () => !other.stats.outage().away && (await other.stats.ledger()).open > 0)
  await Promise.all(grants.map((grant) => grant.settle()))
  proxy.delayMs = 0
  await untilBack(tollgate)
  await until('all entries are closed', async () => (await other.stats.ledger()).open === 0)
  expect(await used(tollgate)).toEqual([350])
})

test('a process that is busy itself does not take Redis for slow', async () => {
  const { namespace } = await ownRedis()
  const tollgate = await namespace.open(QUICK)
  for (let n = 0; n < 5; n++) {
    const request = tollgate.gate.admit(CALL)
    // The check is sent in the next turn, and its answer waits to be read.
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    const untilMs = performance.now() + 2 * QUICK.storeTimeoutMs
    while (performance.now() < untilMs);
    await (await request).settle()
  }
  expect(tollgate.stats.outage()).toMatchObject({ outages: 0, away: false })
})

test('a Redis that is slow counts as away until it answers in time', async () => {
  const { server, namespace } = await ownRedis()
  const proxy = await SlowProxy.start(server.url)
  onTestFinished(() => proxy.stop())
  const tollgate = await namespace.open({ ...QUICK, redis: proxy.url })
  const limiter = tollgate.limiter({ requests: 1000, per: 'hour', algorithm: 'fixed_window' })
  proxy.delayMs = 600
  let request = 0
  let letIn = 0
  const ask = async () => {
    request++
    if ((await limiter.check('k')).allowed) letIn++
  }
  await ask()
  await untilAway(tollgate)
  for (let n = 0; n < 20; n++) await ask()
  await sleep(1500)
  expect(tollgate.stats.outage()).toMatchObject({ away: true, outages: 1 })
  proxy.delayMs = 0
  await untilBack(tollgate)
  await ask()
  expect(request).toBe(letIn)
  expect((await limiter.peek('k')).usage[0]?.used).toBe(letIn)
  await tollgate.close()
})

test('connections that break again and again under load lose no call and count none twice', { timeout: 90_000 }, async () => {
  const { server, namespace } = await ownRedis()
  const proxy = await SlowProxy.start(server.url)
  onTestFinished(() => proxy.stop())
  const rules: RuleSpec[] = [{ name: 'r', scope: 'agent', limits: [{ requests: 1_000_000, per: 'hour', algorithm: 'fixed_window' }] }]
  const tollgate = await namespace.open({ ...QUICK, rules, redis: proxy.url })
  let letIn = 0
  let released = 0
  let stop = false
  const asking = Array.from({ length: 20 }, async (_, n) => {
    while (!stop) {
      const grant = await tollgate.gate.admit({ agent: 'llm' })
      if (grant.allowed) letIn++
      if (grant.allowed && n % 4 === 0) {
        await grant.release()
        released++
      } else if (grant.allowed && n % 4 === 1) await grant.settle()
      await sleep(2)
    }
  })
  for (let cut = 0; cut < 8; cut++) {
    await sleep(150)
    proxy.cut()
    await until('it was noticed', () => tollgate.stats.outage().outages > cut)
    await untilBack(tollgate)
  }
  stop = true
  await Promise.all(asking)
  await untilBack(tollgate)
  expect(letIn).toBeGreaterThan(500)
  expect((await tollgate.gate.peek({ agent: 'llm' })).usage[0]?.used).toBe(letIn - released)
  await tollgate.close()
})

test.each(['fixed_window', 'sliding_window', 'sliding_log', 'token_bucket'] as const)(
  'what was let in and given back, and what was settled, comes out the same by %s',
  async (algorithm) => {
    const { server, namespace } = await ownRedis()
    const rules: RuleSpec[] = [{ name: 'r', scope: 'agent', limits: [{ tokens: 1e6, per: '366d', algorithm }] }]
    const tollgate = await namespace.open({ ...QUICK, rules })
    server.pause()
    const take = async () => {
      const grant = await tollgate.gate.admit({ agent: 'llm', cost: { tokens: 100 } })
      expect(grant.allowed).toBe(true)
      return grant
    }
    const sent = await Promise.all([take(), take(), take()])
    await untilAway(tollgate)
    const given = [...sent, await take(), await take(), await take()]
    await given[0]?.release()
    await given[3]?.release()
    await given[1]?.settle({ tokens: 30 })
    await given[4]?.settle({ tokens: 250 })
    await given[4]?.settle({ tokens: 9999 })
    expect(await given[5]?.settlePart({ tokens: 120 })).toBe(true)
    server.resume()
    await untilBack(tollgate)
    const near = async (tokens: number) => expect((await used(tollgate))[0]).toBeCloseTo(tokens, 0)
    await near(30 + 100 + 250 + 120)
    await given[2]?.release()
    await near(30 + 250 + 120)
    await given[5]?.settle({ tokens: 110 })
    await near(30 + 250 + 110)
    expect(await tollgate.stats.ledger()).toMatchObject({ open: 0 })
  },
)

test('a call that waits in acquire waits on while Redis is away, and is admitted when it is back', async () => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open({ ...QUICK, onStoreError: 'closed' })
  await server.kill()
  await untilAway(tollgate)
  const waiting = tollgate.gate.acquire(CALL)
  await server.start()
  expect((await waiting).allowed).toBe(true)
})

test('rules say for themselves what an outage means: one that is closed refuses, one that is open is left out', async () => {
  const { server, namespace } = await ownRedis()
  const rule = (name: string, onStoreError: 'open' | 'closed' | 'local'): RuleSpec => ({
    name,
    scope: 'agent',
    match: { agents: [`${name}*`] },
    onStoreError,
    limits: [{ requests: 100, per: 'hour', algorithm: 'fixed_window' }],
  })
  const both = { ...rule('a', 'closed'), name: 'both', match: { users: ['u'] } }
  const tollgate = await namespace.open({
    ...QUICK,
    onStoreError: 'closed',
    rules: [rule('open', 'open'), rule('local', 'local'), rule('closed', 'closed'), both],
  })
  await server.kill()
  await untilAway(tollgate)
  const count = async (agent: string, user?: string) => {
    const grants = await Promise.all(Array.from({ length: 20 }, () => tollgate.gate.admit({ agent, user })))
    return grants.filter(({ allowed }) => allowed).length
  }
  expect([await count('open'), await count('local'), await count('closed'), await count('none')]).toEqual([20, 10, 0, 0])
  expect([await count('open', 'u'), await count('local', 'u')]).toEqual([0, 0])
  await server.start()
  await untilBack(tollgate)
})

test('an algorithm of a user is refused while Redis is away, and its state stays', async () => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open(QUICK)
  const limiter = tollgate.limiter({ name: 'mine', check: (count: number | null) => ({ allowed: true, state: (count ?? 0) + 1, retryAfterMs: null }) })
  await limiter.check('k')
  server.pause()
  await expect(limiter.check('k')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true })
  await untilAway(tollgate)
  await expect(limiter.check('k')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
  await expect(limiter.reset('k')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
  server.resume()
  await untilBack(tollgate)
  expect((await limiter.check('k')).allowed).toBe(true)
})

test("an algorithm of a user that is let in unchecked goes by the store's clock, not by this machine's", async () => {
  const { server, namespace } = await ownRedis()
  const clock = new GivenClock(1_700_000_000_000)
  const tollgate = await namespace.open({ ...QUICK, onStoreError: 'open', clock })
  const seen: number[] = []
  const check = (_: null, nowMs: number) => {
    seen.push(nowMs)
    return { allowed: true, state: null, retryAfterMs: null }
  }
  const limiter = tollgate.limiter({ name: 'mine', check })
  await limiter.check('k')
  server.pause()
  await untilAway(tollgate)
  clock.advance(1500)
  await limiter.check('k')
  expect(seen).toEqual([1_700_000_000_000, 1_700_000_001_500])
  server.resume()
  await untilBack(tollgate)
})

test('a Redis that has no memory left takes what gives room back', async () => {
  const { namespace } = await ownRedis()
  const tollgate = await namespace.open(QUICK)
  const [one, two] = [await tollgate.gate.admit(CALL), await tollgate.gate.admit(CALL)]
  await namespace.redis.config('SET', 'maxmemory', '1')
  await tollgate.gate.admit(CALL)
  await untilAway(tollgate)
  expect([await one.release(), await two.settle()]).toEqual([true, true])
  expect(await namespace.redis.zcard(namespace.keys.leases('r', 'llm'))).toBe(0)
  expect(await two.settle()).toBe(false)
  await namespace.redis.config('SET', 'maxmemory', '0')
  await untilBack(tollgate)
})
