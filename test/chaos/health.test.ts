import { Queue } from 'bullmq'
import { expect, onTestFinished, test } from 'vitest'
import type { Call, Health, HealthReason, RuleSpec, Tollgate } from '../../src/index.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { startRedis } from '../support/redis-server.js'
import { Script } from '../support/script.js'
import { until } from '../support/until.js'

/** By when a fault is named. */
const NAMED_MS = 10_000

const ACCOUNT: RuleSpec = { name: 'account', scope: 'agent', limits: [{ requests: 60, per: 'minute', burst: 5 }] }
const MANY = (count: number, call: Call): Call[] => Array.from({ length: count }, () => call)

const workers: Script[] = []

/** A worker in a process of its own. @param handler the body of its handler */
async function worker(namespace: Namespace, { handler = 'return null', queue = 'calls', before = '' } = {}): Promise<Script> {
  const script = new Script(
    `${before}
const tollgate = await Tollgate.open({ redis: '${namespace.url}', namespace: '${namespace.name}', queue: '${queue}' })
tollgate.worker(async (call, context) => { ${handler} })
console.log('ready')`,
  )
  workers.push(script)
  onTestFinished(() => script.kill())
  await until('the worker is there', () => script.output.includes('ready'))
  return script
}

/** Waits until a fault is named. @returns the verdict, and after how long */
async function named(tollgate: Tollgate, reason: HealthReason): Promise<Health> {
  const begin = performance.now()
  let last: Health | undefined
  await until(`the verdict is ${reason}`, async () => {
    last = await tollgate.health()
    return last.reason === reason
  }).catch((error: unknown) => {
    throw new Error(`the verdict is ${JSON.stringify(last)}`, { cause: error })
  })
  expect(performance.now() - begin, JSON.stringify(last)).toBeLessThan(NAMED_MS)
  const verdict = last as Health
  expect(verdict.sentence.split(' ').length, verdict.sentence).toBeLessThanOrEqual(12)
  expect(verdict.next.text).not.toBe('')
  expect(verdict.why).not.toBe('')
  return verdict
}

/** Ends what was staged: what a fault leaves behind is not what is tested here. */
async function wipe(namespace: Namespace, tollgate: Tollgate): Promise<void> {
  await Promise.all(workers.splice(0).map((one) => one.kill()))
  await tollgate.close()
  await namespace.redis.del(namespace.keys.rules, ...(await namespace.allKeys()))
}

test('no worker', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ACCOUNT] })
  expect(await tollgate.health()).toMatchObject({ state: 'flowing', reason: 'EMPTY' })
  await tollgate.enqueueMany(MANY(8, { agent: 'openai' }))
  const verdict = await named(tollgate, 'NO_WORKER')
  expect(verdict).toMatchObject({ state: 'stopped', of: { queue: 'calls' }, next: { command: 'tollgate worker --queue calls' } })
  expect(verdict.whom).toContain('8 calls')
  await wipe(namespace, tollgate)
})

test('no worker any more: the last one was killed', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ACCOUNT] })
  const only = await worker(namespace)
  await (await tollgate.enqueue({ agent: 'openai' })).result()
  await only.kill()
  await tollgate.enqueueMany(MANY(3, { agent: 'openai' }))
  const verdict = await named(tollgate, 'NO_WORKER')
  expect(verdict.sinceMs).toBeGreaterThan(Date.now() - 20_000)
  await wipe(namespace, tollgate)
})

test('no dispatcher: a worker lives, and nothing in it dispatches', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ACCOUNT] })
  await worker(namespace, { before: "const { Dispatcher } = await import('./dist/src/queue/dispatcher.js'); Dispatcher.prototype.work = () => {}" })
  await tollgate.enqueueMany(MANY(9, { agent: 'openai' }))
  const verdict = await named(tollgate, 'NO_DISPATCHER')
  expect(verdict).toMatchObject({ state: 'stopped', figures: { dispatched: false } })
  await wipe(namespace, tollgate)
})

test('stale figures: a process holds the lease, and writes none', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ACCOUNT] })
  await namespace.redis.set(namespace.keys.dispatcher, 'an older version', 'PX', 600_000)
  await worker(namespace)
  await tollgate.enqueueMany(MANY(9, { agent: 'openai' }))
  const verdict = await named(tollgate, 'STALE')
  expect(verdict).toMatchObject({ state: 'unknown', next: { command: 'tollgate health' }, figures: { waiting: null } })
  await wipe(namespace, tollgate)
})

test("one tenant's flood", { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ACCOUNT] })
  await worker(namespace)
  await tollgate.enqueueMany([...MANY(180, { agent: 'openai', org: 'globex' }), ...MANY(20, { agent: 'openai', org: 'acme' })])
  const verdict = await named(tollgate, 'FLOOD')
  expect(verdict).toMatchObject({ state: 'slowed', of: { rule: 'account', limit: 'requests/minute', scopeValue: 'openai', org: 'globex' } })
  expect(verdict.sentence).toBe('globex floods the shared limit requests/minute.')
  expect(verdict.figures.workers).toBe(1)
  await wipe(namespace, tollgate)
})

test("a tenant's flood at its own limit is the gate at work", { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ ...ACCOUNT, name: 'orgs', scope: 'org' }] })
  await worker(namespace)
  await tollgate.enqueueMany(MANY(100, { agent: 'openai', org: 'globex' }))
  const verdict = await named(tollgate, 'OWN_LIMIT')
  expect(verdict).toMatchObject({ state: 'flowing', sentence: 'globex waits at its own limit; others flow.', of: { org: 'globex' } })
  await wipe(namespace, tollgate)
})

test('agent blocked', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ACCOUNT] })
  await worker(namespace, { handler: "throw Object.assign(new Error('429'), { status: 429, headers: { 'retry-after': '60' } })" })
  await tollgate.enqueueMany(MANY(4, { agent: 'openai', org: 'acme' }))
  const verdict = await named(tollgate, 'UPSTREAM')
  expect(verdict.of.agent).toBe('openai')
  await until('nothing passes', async () => (await tollgate.health()).state === 'stopped')
  await wipe(namespace, tollgate)
})

test.each(['queue', 'hard'] as const)('budget spent, where the rule says %s', { timeout: 60_000 }, async (strategy) => {
  const namespace = newNamespace()
  const rules: RuleSpec[] = [{ name: 'team-budget', scope: 'team', strategy, limits: [{ usd: 1, per: 'day', algorithm: 'fixed_window' }] }]
  const tollgate = await namespace.open({ rules })
  await worker(namespace)
  await tollgate.enqueueMany(MANY(4, { agent: 'openai', team: 'alpha', cost: { usd: 0.5 } }))
  const verdict = await named(tollgate, 'BUDGET')
  expect(verdict.of).toMatchObject({ rule: 'team-budget', limit: 'usd/day' })
  expect(['slowed', 'stopped']).toContain(verdict.state)
  await wipe(namespace, tollgate)
})

test('paused', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ACCOUNT] })
  await worker(namespace)
  await tollgate.pause({ agent: 'openai' })
  await tollgate.enqueueMany(MANY(3, { agent: 'openai' }))
  const verdict = await named(tollgate, 'PAUSED')
  expect(verdict).toMatchObject({ sentence: 'Calls of agent openai are paused.', next: { command: 'tollgate resume agent openai' } })
  await tollgate.resume({ agent: 'openai' })
  await until('work flows again', async () => (await tollgate.health()).reason === 'FLOWING')
})

test('Redis away', { timeout: 60_000 }, async () => {
  const server = await startRedis()
  onTestFinished(() => server.stop())
  const tollgate = await newNamespace(server.url).open({ rules: [ACCOUNT] })
  await server.kill()
  const verdict = await named(tollgate, 'REDIS_AWAY')
  expect(verdict.state).toBe('stopped')
  await server.start()
  await until('it is back', async () => (await tollgate.health()).reason !== 'REDIS_AWAY')
})

test('slots of a dead worker', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'slots', scope: 'agent', limits: [{ concurrency: 2 }] }] })
  const dies = await worker(namespace, { handler: 'await new Promise((resolve) => setTimeout(resolve, 600_000))' })
  await tollgate.enqueueMany(MANY(6, { agent: 'openai' }))
  await until('two calls run', async () => (await tollgate.calls({ state: 'running' })).calls.length === 2)
  await dies.kill()
  await worker(namespace)
  const verdict = await named(tollgate, 'DEAD_SLOTS')
  expect(verdict.of).toMatchObject({ rule: 'slots', limit: 'concurrency' })
  expect(verdict.sentence).toContain('2 slots')
  await wipe(namespace, tollgate)
})

test('oversized head', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'tokens', scope: 'agent', limits: [{ tokens: 1000, per: 'minute' }] }] })
  await worker(namespace)
  await (await tollgate.enqueue({ agent: 'openai', cost: { tokens: 400 } })).result()
  const big = await tollgate.enqueue({ agent: 'openai', cost: { tokens: 950 } })
  await tollgate.enqueueMany(MANY(5, { agent: 'openai', cost: { tokens: 10 } }))
  const verdict = await named(tollgate, 'OVERSIZED_HEAD')
  expect(verdict.of.call).toBe(big.id)
  expect(verdict.next.command).toBe(`tollgate cancel ${big.id}`)
  await wipe(namespace, tollgate)
})

test('a queue that nobody works', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ACCOUNT] })
  const other = await namespace.open({ queue: 'mail' })
  await worker(namespace)
  await other.enqueueMany(MANY(3, { agent: 'smtp' }))
  const verdict = await named(tollgate, 'QUEUE_UNWORKED')
  expect(verdict).toMatchObject({ state: 'slowed', of: { queue: 'mail' }, next: { command: 'tollgate worker --queue mail' } })
  await other.close()
  await wipe(namespace, tollgate)
})

test('a call that always fails', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ACCOUNT], attempts: 8 })
  await worker(namespace, { handler: "if (call.org === 'poison') throw new Error('no such model'); return null" })
  const [poison] = await tollgate.enqueueMany([{ agent: 'openai', org: 'poison' }, ...MANY(2, { agent: 'openai' })])
  const verdict = await named(tollgate, 'CALL_FAILS')
  expect(verdict.of).toMatchObject({ call: poison?.id, agent: 'openai', org: 'poison' })
  await wipe(namespace, tollgate)
})

test('a BullMQ queue that is paused', { timeout: 60_000 }, async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ACCOUNT] })
  await worker(namespace)
  const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
  onTestFinished(() => queue.close())
  await queue.pause()
  await tollgate.enqueueMany(MANY(3, { agent: 'openai' }))
  expect((await named(tollgate, 'QUEUE_PAUSED')).state).toBe('stopped')
  await queue.resume()
  await until('work flows again', async () => (await tollgate.health()).state === 'flowing')
  await wipe(namespace, tollgate)
})
