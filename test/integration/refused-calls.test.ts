import { Queue } from 'bullmq'
import { expect, test } from 'vitest'
import { type Call, httpAgent, type RuleSpec, type Tollgate, type TollgateError, UpstreamLimited } from '../../src/index.js'
import { json, startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [{ name: 'account', scope: 'agent', limits: [{ requests: 1000, per: 'second', burst: 100 }, { concurrency: 50 }] }]
const SOON = { retryAfterMs: 1 }

async function failure(work: Promise<unknown>): Promise<TollgateError> {
  return work.then(
    (value) => Promise.reject(new Error(`did not fail: ${JSON.stringify(value)}`)),
    (error: TollgateError) => error,
  )
}

/** A worker whose agent refuses some calls, by their payload. @returns how often each was asked for */
function refusing(tollgate: Tollgate, error: (call: Call) => unknown, options = {}): Map<unknown, number> {
  const asked = new Map<unknown, number>()
  tollgate.worker(async (call) => {
    asked.set(call.payload, (asked.get(call.payload) ?? 0) + 1)
    if (call.payload === 'bad') throw error(call)
    return 'taken'
  }, options)
  return asked
}

test('a call that is refused always ends after its returns with the words of its agent, whatever way it came, and holds nothing', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES, attempts: 3 })
  const asked = refusing(tollgate, () => Object.assign(new Error('429 not you'), { status: 429, headers: { 'retry-after': '0' } }), { maxReturns: 2 })
  const enqueued = await tollgate.enqueue({ agent: 'a', payload: 'bad' })
  expect(await failure(enqueued.result())).toMatchObject({ code: 'UPSTREAM_REFUSED', message: 'refused 3 times (maxReturns 2), at last with: 429 not you' })
  const [own] = await tollgate.enqueueMany([{ agent: 'b', payload: 'bad', maxReturns: 0 }])
  expect((await failure((own as typeof enqueued).result())).message).toMatch(/^refused 1 times \(maxReturns 0\)/)
  const plain = new Queue('calls', { connection: namespace.redis, prefix: namespace.keys.prefix })
  const job = await plain.add('c', 'bad')
  await until('the plain job has failed', async () => (await job.getState()) === 'failed')
  expect(asked.get('bad')).toBe(3 + 1 + 3)
  expect(await tollgate.stats.ledger()).toMatchObject({ open: 0, settled: 0, released: 7 })
  await plain.close()
})

test('a job that is retried by hand after its last return may return as often as a new one', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  const asked = refusing(tollgate, () => new UpstreamLimited(SOON), { maxReturns: 1 })
  const ticket = await tollgate.enqueue({ agent: 'a', payload: 'bad' })
  const { id } = ticket
  await failure(ticket.result())
  expect(asked.get('bad')).toBe(2)
  const queue = new Queue('calls', { connection: namespace.redis, prefix: namespace.keys.prefix })
  const job = await queue.getJob(id)
  await until('its returns are forgotten', async () => (await namespace.redis.hexists(queue.toKey(id), 'tollgate:returns')) === 0)
  await job?.retry()
  await until('it has failed again', async () => asked.get('bad') === 4 && (await job?.getState()) === 'failed')
  await queue.close()
})

test('returns are counted across workers', async () => {
  const namespace = newNamespace()
  const first = await namespace.open({ rules: RULES })
  const asked = refusing(first, () => new UpstreamLimited(SOON), { maxReturns: 4 })
  const call = { id: 'one', agent: 'a', payload: 'bad' }
  await first.enqueue(call)
  await until('it was refused twice', () => (asked.get('bad') ?? 0) >= 2)
  const second = await namespace.open({ rules: RULES })
  await first.close()
  const later = refusing(second, () => new UpstreamLimited(SOON), { maxReturns: 4 })
  const ticket = await second.enqueue(call)
  expect((await failure(ticket.result())).message).toMatch(/^refused 5 times/)
  expect((asked.get('bad') ?? 0) + (later.get('bad') ?? 0)).toBe(5)
})

test.each([
  ['retryable: false', () => new UpstreamLimited({ retryable: false, message: 'never' }), 'never'],
  ['x-should-retry: false', () => Object.assign(new Error('no'), { status: 429, headers: { 'x-should-retry': 'false' } }), 'no'],
  ['insufficient_quota', () => Object.assign(new Error('no quota'), { status: 429, code: 'insufficient_quota' }), 'no quota'],
  ['a body too large', () => Object.assign(new Error('big'), { status: 413 }), 'big'],
])('an agent that says by %s that waiting does not help fails the call at once, with no further attempt, and nothing is blocked', async (_, error, words) => {
  const tollgate = await newNamespace().open({ rules: RULES, attempts: 3 })
  const asked = refusing(tollgate, error)
  expect(await failure((await tollgate.enqueue({ agent: 'a', payload: 'bad' })).result())).toMatchObject({
    code: 'UPSTREAM_REFUSED',
    message: words,
    retryable: false,
  })
  expect(asked.get('bad')).toBe(1)
  expect(await tollgate.capacity.get({ agent: 'a' })).toMatchObject({ state: 'open' })
  await until('its charge and slot went back', async () => (await tollgate.gate.peek({ agent: 'a' })).usage.every(({ used }) => used < 1))
})

test('a probe that is refused for good makes way for the next call at once', async () => {
  const tollgate = await newNamespace().open({ rules: RULES })
  let refusals = 0
  refusing(tollgate, () => (++refusals === 1 ? new UpstreamLimited({ retryAfterMs: 300 }) : new UpstreamLimited({ retryable: false })))
  const bad = await tollgate.enqueue({ agent: 'a', payload: 'bad' })
  await until('the agent is blocked', async () => (await tollgate.capacity.get({ agent: 'a' })).state === 'blocked')
  const good = await tollgate.enqueue({ agent: 'a', payload: 'good' })
  expect(await good.result()).toBe('taken')
  expect((await failure(bad.result())).code).toBe('UPSTREAM_REFUSED')
})

test('maxWaitMs ends a call that is refused again and again, counted from its first refusal; so does a deadline', async () => {
  const tollgate = await newNamespace().open({ rules: RULES })
  refusing(tollgate, () => new UpstreamLimited(SOON))
  for (const bound of [{ maxWaitMs: 900 }, { deadline: new Date(Date.now() + 1500) }]) {
    const ticket = await tollgate.enqueue({ agent: 'a', payload: 'bad', ...bound })
    expect((await failure(ticket.result())).code).toBe('CALL_EXPIRED')
  }
})

test('while a refused call waits alone it is waiting for its agent, and can be cancelled', async () => {
  const tollgate = await newNamespace().open({ rules: RULES })
  refusing(tollgate, () => new UpstreamLimited({ retryAfterMs: 60_000 }))
  const { id } = await tollgate.enqueue({ agent: 'a', payload: 'bad' })
  await until('it waits', async () => (await tollgate.explain(id)).state === 'waiting')
  const { binding, etaMs } = await tollgate.explain(id)
  expect(binding).toMatchObject({ rule: '~block', limit: 'retry-after' })
  expect(etaMs).toBeGreaterThan(50_000)
  expect(await tollgate.cancel(id)).toBe(true)
})

test('httpAgent fails a call whose quota is used up with the words of the agent, and without the key that these echo', async () => {
  const agent = await startAgent((response) =>
    json(response, { error: { code: 'insufficient_quota', message: 'You exceeded your current quota, key my-own-key' } }, 429),
  )
  const tollgate = await newNamespace().open({ rules: RULES, attempts: 3 })
  tollgate.worker(httpAgent({ a: { baseUrl: agent.url, apiKeyEnv: 'MY_KEY' } }, { MY_KEY: 'my-own-key' }))
  const error = await failure((await tollgate.enqueue({ agent: 'a' })).result())
  expect(error.code).toBe('UPSTREAM_REFUSED')
  expect(error.message).toMatch(/^a answered 429: .*You exceeded your current quota, key \[hidden\]/)
  expect(agent.requests).toHaveLength(1)
})

test('a handler that throws headers which throw gives back what it held', async () => {
  const tollgate = await newNamespace().open({ rules: RULES })
  const headers = {
    get() {
      throw new Error('headers')
    },
  }
  refusing(tollgate, () => Object.assign(new Error('refused'), { status: 429, headers }), { maxReturns: 0 })
  expect((await failure((await tollgate.enqueue({ agent: 'a', payload: 'bad' })).result())).message).toMatch(/refused$/)
  expect((await tollgate.stats.ledger()).open).toBe(0)
})
