import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type RuleSpec, StoreUnavailable } from '../../src/index.js'
import { DEFAULTS } from '../../src/model/defaults.js'
import { FactJournal } from '../support/fact-journal.js'
import { ownRedis, untilAway, untilBack, WAYS } from '../support/outage.js'
import { codeOf } from '../support/place.js'
import { SlowProxy } from '../support/slow-proxy.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  {
    name: 'r',
    scope: 'agent',
    limits: [
      { requests: 400, per: 'second', burst: 40 },
      { concurrency: 30, lease: '5s' },
    ],
  },
]
const CALL = { agent: 'llm', id: 'mine' }
const QUICK = { storeTimeoutMs: 200, enqueueTimeoutMs: 400, onStoreError: 'closed' } as const

/** What was thrown; fails where nothing was. */
async function thrown(work: Promise<unknown>): Promise<StoreUnavailable> {
  const error: unknown = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  )
  expect(error).toBeInstanceOf(StoreUnavailable)
  return error as StoreUnavailable
}

describe.each(WAYS)('while Redis is $how', ({ how, begin, end }) => {
  test('enqueue, explain and cancel end with a clear error, and the call can be tried again under its id', async () => {
    const { server, namespace } = await ownRedis()
    const tollgate = await namespace.open({ ...QUICK, rules: RULES })
    const done: unknown[] = []
    tollgate.worker(async (call) => void done.push(call.payload))
    await begin(server, namespace)
    const error = await thrown(tollgate.enqueue({ ...CALL, payload: 1 }))
    expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true, maybeEnqueued: false, id: 'mine' })
    expect(error.message).toMatch(/not enqueued$/)
    const tickets = await tollgate.enqueueMany(Array.from({ length: 120 }, () => ({ agent: 'llm' })))
    expect(tickets).toHaveLength(120)
    expect(tickets.every((ticket) => ticket.error?.code === 'STORE_UNAVAILABLE')).toBe(true)
    await end(server, namespace)
    await untilBack(tollgate)
    const ticket = await tollgate.enqueue({ ...CALL, payload: 2 })
    expect(ticket.id).toBe('mine')
    await ticket.result()
    expect(done).toEqual([2])
    await until('what was promised to the others went back', async () => (await namespace.redis.exists(namespace.keys.passes)) === 0)
  })

  test('changes to rules, overrides and pauses end in time, what is paused stays so, and they work again when it is back', async () => {
    const { server, namespace } = await ownRedis()
    const tollgate = await namespace.open({ ...QUICK, rules: RULES, onStoreError: 'open' })
    await tollgate.pause({ agent: 'llm' })
    await begin(server, namespace)
    const grant = { for: { agent: 'llm' }, allow: 'unlimited', reason: 'incident', forMs: 60_000 } as const
    const changes = () => [
      tollgate.overrides.grant({ ...grant, by: 'ops' }),
      tollgate.resume({ agent: 'llm' }),
      tollgate.setCapacity('llm', 10),
      tollgate.rules.apply([]),
    ]
    for (const error of await Promise.all(changes().map(thrown))) expect(error.code).toBe('STORE_UNAVAILABLE')
    // One that only refuses to write may answer.
    expect(await codeOf(tollgate.overrides.audit())).toMatch(/STORE_UNAVAILABLE|no error/)
    await untilAway(tollgate)
    expect((await tollgate.gate.admit({ agent: 'llm' })).decision).toMatchObject({ outcome: 'reject', reason: 'paused' })
    expect((await tollgate.gate.admit({ agent: 'other' })).allowed).toBe(true)
    await end(server, namespace)
    await untilBack(tollgate)
    await tollgate.resume({ agent: 'llm' })
    expect((await tollgate.gate.admit({ agent: 'llm' })).allowed).toBe(true)
  })

  test('workers hold their calls and go on by themselves: none fails, none uses an attempt', { timeout: 90_000 }, async () => {
    const { server, namespace } = await ownRedis()
    const tollgate = await namespace.open({ ...QUICK, rules: RULES })
    const journal = new FactJournal(RULES)
    const done = new Map<number, number>()
    tollgate.worker(
      async (call, { attempt, decision }) => {
        expect(attempt).toBe(1)
        const { index } = call.payload as { index: number }
        const ended = journal.started(`k${index}`, 'worker', decision.atMs)
        done.set(index, (done.get(index) ?? 0) + 1)
        await sleep(5)
        ended('done', { requests: 1 })
      },
      { leaseMs: 2000 },
    )
    journal.worker('worker', DEFAULTS.concurrency)
    const CALLS = 800
    const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
    onTestFinished(() => queue.close())
    const calls = Array.from({ length: CALLS }, (_, index) => ({ agent: 'llm', payload: { index } }))
    const answered = journal.asked(calls, (index) => `k${index}`)
    answered(await tollgate.enqueueMany(calls))
    await until('some are done', () => done.size >= 200)
    const isBack = journal.fault('redis away', `Redis is ${how}`)
    await begin(server, namespace)
    await sleep(1200)
    await end(server, namespace)
    await until('every call is done', async () => (await queue.getCompletedCount()) === CALLS, 60_000)
    expect(await queue.getFailedCount()).toBe(0)
    expect(done.size).toBe(CALLS)
    await until('every slot is back', async () => (await namespace.redis.zcount(namespace.keys.leases('r', 'llm'), Date.now(), '+inf')) === 0)
    await untilBack(tollgate)
    isBack()
    expect(journal.reports(['never over', 'nothing lost', 'nothing twice', 'no error'])).toEqual([])
  })
})

test('an enqueue that was sent and not answered says that it may have happened, and is not done twice', async () => {
  const { server, namespace } = await ownRedis()
  const proxy = await SlowProxy.start(server.url)
  onTestFinished(() => proxy.stop())
  const tollgate = await namespace.open({ ...QUICK, redis: proxy.url, rules: RULES })
  // Long enough that the gate answers in time, and the queue does not.
  proxy.delayMs = 250
  const error = await thrown(tollgate.enqueue({ agent: 'llm' }))
  expect(error.maybeEnqueued).toBe(true)
  expect(error.message).toMatch(/may have been enqueued after all: try again under the same id$/)
  expect(error.id).toBeDefined()
  proxy.delayMs = 0
  await untilBack(tollgate)
  let done = 0
  const again = await tollgate.enqueue({ agent: 'llm', id: error.id })
  tollgate.worker(async () => void done++)
  await again.result()
  expect(done).toBe(1)
  await tollgate.close()
})

test('while Redis is gone an override ends all the same, and an agent that asked to be left alone is', async () => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open({
    ...QUICK,
    rules: [{ name: 'u', scope: 'user', limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' }] }],
    onStoreError: 'local',
  })
  await tollgate.overrides.grant({ for: { user: 'u' }, allow: 'unlimited', reason: 'incident', by: 'ops', forMs: 1500 })
  await tollgate.capacity.announce({ agent: 'blocked', retryAfterMs: 600_000 })
  await server.kill()
  await untilAway(tollgate)
  const allowed = async (agent: string) => (await tollgate.gate.admit({ agent, user: 'u' })).allowed
  await until('the override has ended here', async () => tollgate.overrides.list().length === 0)
  expect([await allowed('llm'), await allowed('llm')]).toContain(false)
  expect((await tollgate.gate.admit({ agent: 'blocked' })).decision).toMatchObject({ outcome: 'reject', binding: { rule: '~block' } })
  // Heard while it is gone: kept to here.
  expect((await tollgate.gate.admit({ agent: 'other' })).allowed).toBe(true)
  expect(await codeOf(tollgate.capacity.announce({ agent: 'other', retryAfterMs: 600_000 }))).toBe('STORE_UNAVAILABLE')
  expect((await tollgate.gate.admit({ agent: 'other' })).allowed).toBe(false)
  await server.restart()
  await untilBack(tollgate)
})

test('calls that were given up while Redis stood still keep no call waiting when it goes on', async () => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open({ ...QUICK, rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 20, per: 'second', burst: 1 }] }] })
  let done = 0
  tollgate.worker(async () => void done++)
  server.pause()
  await untilAway(tollgate)
  const given = await Promise.allSettled(Array.from({ length: 40 }, () => tollgate.enqueue({ agent: 'llm' })))
  expect(given.every(({ status }) => status === 'rejected')).toBe(true)
  server.resume()
  await untilBack(tollgate)
  const tickets = await Promise.all(Array.from({ length: 20 }, () => tollgate.enqueue({ agent: 'llm' })))
  // What the 40 were promised goes back at once: far less than the five seconds that each would be waited for.
  await Promise.all(tickets.map((ticket) => ticket.result({ signal: AbortSignal.timeout(15_000) })))
  expect(done).toBe(20)
})

test.each(WAYS)('closing with a worker ends, and leaves nothing open, while Redis is $how', async ({ begin, end }) => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open({ ...QUICK, rules: RULES })
  const worker = tollgate.worker(async () => null)
  await (await tollgate.enqueue({ agent: 'llm' })).result()
  await begin(server, namespace)
  await codeOf(tollgate.gate.admit({ agent: 'llm' }))
  await untilAway(tollgate)
  await worker.close()
  await tollgate.close()
  await end(server, namespace)
})

test('explain and cancel end with a clear error while Redis stands still', async () => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open({ ...QUICK, rules: RULES })
  const { id } = await tollgate.enqueue({ agent: 'llm' })
  server.pause()
  expect((await thrown(tollgate.explain(id))).message).toMatch(/did not answer within 400 ms/)
  expect((await thrown(tollgate.cancel(id))).message).toMatch(/cancellation may have happened after all/)
  await untilAway(tollgate)
  server.resume()
  await untilBack(tollgate)
  await until('it is gone', async () => (await thrown(tollgate.explain(id)).catch(() => undefined)) === undefined)
})

test('closing while Redis is away ends at once, and leaves nothing open', async () => {
  const { server, namespace } = await ownRedis()
  const tollgate = await namespace.open({ ...QUICK, rules: RULES, onStoreError: 'open' })
  tollgate.worker(async () => {})
  await server.kill()
  await untilAway(tollgate)
  await tollgate.gate.admit({ agent: 'llm' })
  await tollgate.close()
  await expect(tollgate.gate.admit({ agent: 'llm' })).rejects.toMatchObject({ code: 'CLOSED' })
  await server.start()
})
