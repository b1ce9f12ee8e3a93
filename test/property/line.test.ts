import fc from 'fast-check'
import { expect, test } from 'vitest'
import { forget } from '../support/keys.js'
import { newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { givenScriptClient } from '../support/script-client.js'
import { SimulatedQueue } from '../support/simulated-queue.js'

const LLM = { agent: 'llm' }

function many(count: number, call: (index: number) => object): { id: string; call: { agent: string } }[] {
  return Array.from({ length: count }, (_, index) => ({ id: `c${index}`, call: { ...LLM, ...call(index) } }))
}

test('while a line is not empty its meter is used to at least 99 %, and never over (invariants 1, 5, 6)', async () => {
  const namespace = newNamespace()
  const meter = fc.record({
    perSecond: fc.integer({ min: 20, max: 400 }),
    burst: fc.integer({ min: 10, max: 40 }),
    tokens: fc.boolean(),
    jitterMs: fc.integer({ min: 0, max: 25 }),
    seed: fc.nat(),
  })
  await fc.assert(
    fc.asyncProperty(meter, async ({ perSecond, burst, tokens, jitterMs, seed }) => {
      await forget(namespace)
      const limit = tokens ? { tokens: perSecond * 10, per: 'second', burst: burst * 20 } : { requests: perSecond, per: 'second', burst }
      const { scriptClient, clock } = givenScriptClient(namespace, [{ name: 'r', scope: 'agent', limits: [limit] }])
      let state = seed
      const random = () => {
        state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
        return state / 2 ** 32
      }
      const queue = new SimulatedQueue({ namespace, scriptClient, clock, latencyMs: () => 2 + random() * jitterMs })
      const costs = new Map<string, number>()
      const calls = many(perSecond * 9 + burst * 3, (index) => {
        const cost = tokens ? 1 + Math.floor(random() * 19) : 0
        costs.set(`calls/c${index}`, tokens ? cost : 1)
        return { cost: { tokens: cost } }
      })
      const begin = clock.nowMs
      await queue.enqueue(calls)
      await queue.runFor(6000)
      const weight = (id: string) => costs.get(id) ?? Number.NaN
      const rate = (tokens ? perSecond * 10 : perSecond) / 1000
      const capacity = tokens ? burst * 20 : burst
      const middle = queue.starts.filter(({ atMs }) => atMs >= begin + 1000 && atMs < begin + 6000)
      expect(middle.reduce((sum, { id }) => sum + weight(id), 0)).toBeGreaterThanOrEqual(0.99 * rate * 5000 - (tokens ? 20 : 1))
      expect(queue.pickups).toBeLessThanOrEqual(Math.ceil(queue.starts.length * 1.05) + 100 * rate)
      let low = 0
      for (const [last, start] of queue.starts.entries()) {
        let sum = 0
        low = Math.max(0, last - 300)
        for (let first = last; first >= low; first--) {
          const from = queue.starts[first] as (typeof queue.starts)[number]
          sum += weight(from.id)
          if (sum > capacity + rate * (start.atMs - from.atMs) + 1e-6) expect.fail(`${sum} started within ${start.atMs - from.atMs} ms`)
        }
      }
      await queue.cancelAll()
    }),
    { numRuns: runs(8) },
  )
  // Half a minute on an idle machine: up to 3,720 calls a run.
}, 240_000)

test('within a line calls go by priority, then by arrival (invariant 8)', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, [{ name: 'r', scope: 'agent', limits: [{ requests: 10, per: 'second', burst: 1 }] }])
  const queue = new SimulatedQueue({ namespace, scriptClient, clock })
  const priorities = [0, 0, 5, 0, -3, 5, 0, 9]
  for (const [index, priority] of priorities.entries()) await queue.enqueue([{ id: `c${index}`, call: { ...LLM, priority } as { agent: string } }])
  await queue.runFor(2000)
  expect(queue.starts.map(({ id }) => id)).toEqual(['c0', 'c7', 'c2', 'c5', 'c1', 'c3', 'c6', 'c4'].map((id) => `calls/${id}`))
})

test('a low priority is not starved by higher ones that keep coming', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, [{ name: 'r', scope: 'agent', limits: [{ requests: 6, per: 'minute', burst: 1 }] }])
  const queue = new SimulatedQueue({ namespace, scriptClient, clock })
  await queue.enqueue([...many(2, () => ({})), { id: 'low', call: { ...LLM, priority: -2 } as { agent: string } }])
  for (let i = 0; i < 40; i++) {
    await queue.enqueue([{ id: `high${i}`, call: { ...LLM, priority: 3 } as { agent: string } }])
    await queue.runFor(10_000, 500)
  }
  const order = queue.starts.map(({ id }) => id)
  const place = order.indexOf('calls/low')
  // Five steps of priority are worth five minutes of waiting: calls that came later than that stand behind it.
  expect(place).toBeGreaterThan(25)
  expect(place).toBeLessThan(38)
  await queue.cancelAll()
})

test('a newcomer does not overtake a line it has to stand in', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, [{ name: 'r', scope: 'agent', limits: [{ requests: 10, per: 'second', burst: 1 }] }])
  const queue = new SimulatedQueue({ namespace, scriptClient, clock })
  await queue.enqueue(many(3, () => ({})))
  // Room comes back while no dispatcher runs: it belongs to the calls in line.
  clock.advance(5000)
  expect(await queue.enqueue([{ id: 'new', call: LLM }])).toEqual(['wait'])
  await queue.runFor(1000)
  expect(queue.starts.at(-1)?.id).toBe('calls/new')
})

test('a tenant far over its limit does not hold up another (invariant 7)', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, [
    { name: 'account', scope: 'agent', limits: [{ requests: 100, per: 'second', burst: 20 }] },
    { name: 'org', scope: 'org', limits: [{ requests: 10, per: 'second', burst: 2 }] },
  ])
  const queue = new SimulatedQueue({ namespace, scriptClient, clock })
  await queue.enqueue(many(1000, () => ({ org: 'greedy' })))
  for (let i = 0; i < 10; i++) {
    await queue.enqueue([{ id: `modest${i}`, call: { ...LLM, org: 'modest' } as { agent: string } }])
    await queue.runFor(200)
  }
  const modest = queue.starts.filter(({ id }) => id.startsWith('calls/modest'))
  expect(modest).toHaveLength(10)
  await queue.cancelAll()
})

test('a call that needs two busy meters at the same moment is not starved', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, [
    { name: 'left', scope: 'team', limits: [{ requests: 20, per: 'second', burst: 2 }] },
    { name: 'right', scope: 'model', limits: [{ requests: 20, per: 'second', burst: 2 }] },
  ])
  const queue = new SimulatedQueue({ namespace, scriptClient, clock })
  const calls = Array.from({ length: 150 }, (_, index) => [
    { id: `l${index}`, call: { ...LLM, team: 't' } },
    { id: `r${index}`, call: { ...LLM, model: 'm' } },
  ]).flat()
  await queue.enqueue(calls.slice(0, 100))
  await queue.enqueue([{ id: 'both', call: { ...LLM, team: 't', model: 'm' } as { agent: string } }])
  await queue.enqueue(calls.slice(100))
  await queue.runFor(4000)
  const place = queue.starts.findIndex(({ id }) => id === 'calls/both')
  // 100 calls came before it; a few of the 200 behind it may pass while it moves from one line to the other.
  expect(place).toBeGreaterThanOrEqual(0)
  expect(place).toBeLessThan(130)
  await queue.cancelAll()
})

test('a freed slot wakes the next in line, and no slot is used twice', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, [{ name: 'r', scope: 'agent', limits: [{ concurrency: 5 }] }])
  const queue = new SimulatedQueue({ namespace, scriptClient, clock, runMs: 100 })
  await queue.enqueue(many(60, () => ({})))
  await queue.runFor(3000)
  expect(queue.starts).toHaveLength(60)
  for (const { atMs } of queue.starts) expect(queue.starts.filter((other) => other.atMs > atMs - 100 && other.atMs <= atMs).length).toBeLessThanOrEqual(5)
  expect(queue.pickups).toBe(60)
})

test('lines and meters of every kind empty themselves when their calls are done', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, [
    { name: 'r', scope: 'org', limits: [{ requests: 50, per: 'second', burst: 5 }, { tokens: 5000, per: 'second' }, { concurrency: 10 }] },
  ])
  const queue = new SimulatedQueue({ namespace, scriptClient, clock, runMs: 20 })
  await queue.enqueue(many(100, (index) => ({ org: `o${index % 3}`, cost: { tokens: index } })))
  await queue.runFor(3000)
  expect(queue.starts).toHaveLength(100)
  const left = (await namespace.allKeys()).filter((key) => !key.startsWith(`${namespace.keys.prefix}/m/`))
  expect(left.sort()).toEqual([namespace.keys.figures, namespace.keys.sequence].sort())
})
