import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { ownRedis, untilBack, WAYS } from '../support/outage.js'
import { until } from '../support/until.js'

const SLOTS: RuleSpec[] = [{ name: 'slots', scope: 'agent', limits: [{ concurrency: 2, lease: '1s' }] }]

/** Counts the handlers that go on at once. */
class AtOnce {
  now = 0
  most = 0
  readonly runs = new Map<string, number>()

  async run(id: string, ms: number): Promise<void> {
    this.runs.set(id, (this.runs.get(id) ?? 0) + 1)
    this.most = Math.max(this.most, ++this.now)
    await sleep(ms)
    this.now--
  }
}

describe.each(WAYS.filter(({ how }) => how !== 'killed'))('while Redis is $how', ({ how, begin, end }) => {
  test('running calls keep their slots, though it takes longer than a lease', { timeout: 60_000 }, async () => {
    const { server, namespace } = await ownRedis()
    const [app, other] = [await namespace.open({ rules: SLOTS }), await namespace.open({ rules: SLOTS })]
    const agent = new AtOnce()
    for (const tollgate of [app, other]) tollgate.worker((_call, { id }) => agent.run(id, 4500), { concurrency: 10 })
    const tickets = await app.enqueueMany(Array.from({ length: 6 }, () => ({ agent: 'llm' })))
    await until('two run', () => agent.now === 2)
    await begin(server, namespace)
    await sleep(1800)
    await end(server, namespace)
    await Promise.all(tickets.map((ticket) => ticket.result()))
    expect(agent.most).toBe(2)
  })

  test('ends of calls are told again until it takes them: none runs twice', { timeout: 60_000 }, async () => {
    const { server, namespace } = await ownRedis()
    const app = await namespace.open({ rules: [{ name: 'rate', scope: 'agent', limits: [{ requests: 100, per: 'second', burst: 20 }] }] })
    const agent = new AtOnce()
    app.worker(
      async (_call, { id, attempt }) => {
        await agent.run(id, 150)
        if (attempt === 1 && id.endsWith('0')) throw new Error('once')
      },
      { concurrency: 20, leaseMs: 4000 },
    )
    const tickets = await app.enqueueMany(Array.from({ length: 60 }, (_, n) => ({ agent: 'llm', id: `c${n}` })))
    await until('twenty run', () => agent.runs.size >= 20)
    await begin(server, namespace)
    await sleep(1500)
    await end(server, namespace)
    await Promise.allSettled(tickets.map((ticket) => ticket.result()))
    // A call that fails is tried again by its attempts alone.
    const twice = [...agent.runs].filter(([id, runs]) => runs > (id.endsWith('0') ? 2 : 1))
    expect(twice, how).toEqual([])
    expect(agent.runs.size).toBe(60)
    await until('all are settled', async () => (await app.stats.ledger()).open === 0)
    await untilBack(app)
  })
})

test('a machine whose clock is set back runs no call twice', { timeout: 30_000 }, async () => {
  const tollgate = await newNamespace().open({ rules: SLOTS })
  const agent = new AtOnce()
  tollgate.worker((_call, { id }) => agent.run(id, 3500), { leaseMs: 1000 })
  const ticket = await tollgate.enqueue({ agent: 'llm' })
  await until('it runs', () => agent.now === 1)
  const now = Date.now.bind(Date)
  const setBack = vi.spyOn(Date, 'now').mockImplementation(() => now() - 3_600_000)
  try {
    await ticket.result()
  } finally {
    setBack.mockRestore()
  }
  expect([...agent.runs.values()]).toEqual([1])
})
