import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { type RuleSpec, UpstreamLimited } from '../../src/index.js'
import { ownRedis, untilAway, untilBack, WAYS } from '../support/outage.js'
import { until } from '../support/until.js'

const QUICK = { storeTimeoutMs: 200, enqueueTimeoutMs: 400 }
/** Calls of the agent `gate` stand in line at first: their worker has them, and they wait for their start, when Redis goes. */
const RULES: RuleSpec[] = [
  {
    name: 'r',
    scope: 'agent',
    limits: [
      { requests: 100, per: 'hour', algorithm: 'fixed_window' },
      { concurrency: 20, lease: '2s' },
    ],
  },
]

describe.each(WAYS)('while Redis is $how', ({ begin, end }) => {
  test('jobs that a worker has taken run under its share, and are charged once', { timeout: 60_000 }, async () => {
    const { server, namespace } = await ownRedis()
    const tollgate = await namespace.open({ ...QUICK, rules: RULES })
    const runs = new Map<string, number>()
    let away = false
    tollgate.worker(
      async (call, { id }) => {
        runs.set(id, (runs.get(id) ?? 0) + 1)
        if (call.payload === 'first') await until('the others are taken', () => away)
        return { usage: { requests: 1 } }
      },
      { concurrency: 10, leaseMs: 10_000 },
    )
    // Ten at their handlers, the worker's ten places taken: the next jobs come when these end, while Redis is away.
    const tickets = await tollgate.enqueueMany(Array.from({ length: 10 }, () => ({ agent: 'llm', payload: 'first' })))
    await until('ten run', () => runs.size === 10)
    await begin(server, namespace)
    await untilAway(tollgate)
    away = true
    await end(server, namespace)
    await untilBack(tollgate)
    for (const ticket of tickets) await ticket.result({ signal: AbortSignal.timeout(20_000) })
    expect([...runs.values()]).toEqual(Array.from({ length: 10 }, () => 1))
    await until('all is settled', async () => (await tollgate.stats.ledger()).open === 0)
    expect((await tollgate.gate.peek({ agent: 'llm' })).usage[0]?.used).toBe(10)
    // For two seconds after an outage no slot counts as free.
    await until('every slot is back', async () => (await namespace.redis.exists(namespace.keys.leases('r', 'llm'))) === 0)
  })
})

/** A worker that has taken so many jobs whose starts Redis has not answered when it goes. */
async function takenJobs(count: number, onStoreError: 'local' | 'open' | 'closed', refuse?: Error) {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open({ ...QUICK, rules: RULES, onStoreError, maxUnchecked: 3 })
  const runs: string[] = []
  let refusal = refuse
  const tickets = await tollgate.enqueueMany(Array.from({ length: count }, () => ({ agent: 'llm' })))
  let stopped = false
  // The calls are read (by `callOf`) before they are started: Redis goes in between.
  const callOf = ({ name, data }: { name: string; data: object }) => {
    if (!stopped) server.pause()
    stopped = true
    return { agent: name, ...data }
  }
  tollgate.worker(
    async (_, { id }) => {
      const thrown = refusal
      refusal = undefined
      if (thrown !== undefined) throw thrown
      runs.push(id)
      return { usage: { requests: 1 } }
    },
    { concurrency: count, leaseMs: 10_000, callOf },
  )
  await untilAway(tollgate)
  const back = async () => {
    server.resume()
    await untilBack(tollgate)
  }
  return { tollgate, namespace, tickets, runs, back }
}

test.each([
  ['local', { metered: 1, unchecked: 0 }],
  ['open', { metered: 0, unchecked: 1 }],
] as const)('a call whose start was sent and not answered runs at once under %s, once, and is counted and charged once', async (mode, figures) => {
  const { tollgate, namespace, tickets, runs, back } = await takenJobs(1, mode)
  await until('it runs', () => runs.length === 1)
  expect(tollgate.stats.outage()).toMatchObject({ away: true, ...figures })
  await back()
  await tickets[0]?.result({ signal: AbortSignal.timeout(20_000) })
  await until('what the late start took is given back', async () => (await tollgate.gate.peek({ agent: 'llm' })).usage[0]?.used === 1)
  await until('its entries are closed', async () => (await tollgate.stats.ledger()).open === 0)
  await until('its pass is given back', async () => (await namespace.redis.exists(namespace.keys.passes)) === 0)
  expect(runs).toHaveLength(1)
})

test('under closed a worker holds its call, and it runs when Redis is back', async () => {
  const { tollgate, tickets, runs, back } = await takenJobs(1, 'closed')
  await sleep(500)
  expect(runs).toEqual([])
  await back()
  await tickets[0]?.result({ signal: AbortSignal.timeout(20_000) })
  expect(runs).toHaveLength(1)
  expect((await tollgate.gate.peek({ agent: 'llm' })).usage[0]?.used).toBe(1)
})

test('an agent that refuses meanwhile is left alone, and the call is tried again by its worker', async () => {
  const { tollgate, namespace, tickets, runs, back } = await takenJobs(1, 'open', new UpstreamLimited({ retryAfterMs: 300 }))
  await until('it runs', () => runs.length === 1)
  expect(tollgate.stats.outage()).toMatchObject({ away: true, unchecked: 2 })
  await back()
  await tickets[0]?.result({ signal: AbortSignal.timeout(20_000) })
  await until('the late start is given back', async () => (await tollgate.gate.peek({ agent: 'llm' })).usage[0]?.used === 1)
  await until('its pass is given back', async () => (await namespace.redis.exists(namespace.keys.passes)) === 0)
})

test('held calls go on under the share, and wait for Redis where it has no room', async () => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open({
    ...QUICK,
    rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 20, per: 'hour', algorithm: 'fixed_window' }] }],
  })
  const held = tollgate.hold()
  expect(await held.run({ agent: 'llm' }, async () => 1)).toBe(1)
  await server.kill()
  await untilAway(tollgate)
  // A tenth of the window.
  expect(await Promise.all([2, 3].map((n) => held.run({ agent: 'llm' }, async () => n)))).toEqual([2, 3])
  const waits = held.run({ agent: 'llm' }, async () => 4)
  await server.restart()
  await untilBack(tollgate)
  expect(await waits).toBe(4)
  expect((await tollgate.gate.peek({ agent: 'llm' })).usage[0]?.used).toBe(4)
  expect(await held.run({ agent: 'llm' }, async () => 5)).toBe(5)
})
