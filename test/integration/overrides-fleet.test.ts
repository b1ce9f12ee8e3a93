import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { GivenClock, type RuleSpec, type Tollgate } from '../../src/index.js'
import { DEFAULTS } from '../../src/model/defaults.js'
import { Enqueuer } from '../../src/queue/enqueuer.js'
import { QueueStates } from '../../src/queue/queue-states.js'
import { Results } from '../../src/queue/results.js'
import { StrategyResolver } from '../../src/queue/strategy-resolver.js'
import { CallMetrics } from '../../src/telemetry/call-metrics.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { codeOf } from '../support/place.js'
import { Script } from '../support/script.js'
import { realScriptClient, T0 } from '../support/script-client.js'
import { until } from '../support/until.js'

const HOUR = 3_600_000
const RULES: RuleSpec[] = [
  { name: 'per-user', scope: 'user', limits: [{ requests: 1, per: 'hour' }] },
  { name: 'account', scope: 'agent', limits: [{ requests: 1000, per: 'hour' }] },
]
const UNLIMITED = { allow: 'unlimited', reason: 'incident', by: 'ops', forMs: HOUR } as const

function calls(user: string, count: number) {
  return Array.from({ length: count }, () => ({ agent: 'llm', user }))
}

test('an override that one process grants wakes the waiting calls of its user on the worker of another process, and no others', async () => {
  const namespace = newNamespace()
  const worker = await namespace.open({ rules: RULES })
  const started: string[] = []
  worker.worker(async (call) => void started.push(call.user ?? ''))
  const app = await namespace.open()
  const tickets = await app.enqueueMany([...calls('alice', 10), ...calls('bob', 5)])
  await until('one call of each user has started, as the rules allow', () => started.length === 2)
  const other = await namespace.open()
  const id = await other.overrides.grant({ for: { user: 'alice' }, ...UNLIMITED })
  await until('all calls of alice have started', () => started.filter((user) => user === 'alice').length === 10)
  expect(started.filter((user) => user === 'bob')).toHaveLength(1)
  expect(worker.overrides.list().map((one) => one.id)).toEqual([id])
  await other.overrides.revoke(id, { by: 'ops' })
  await until('the app knows that it is revoked', () => app.overrides.list().length === 0)
  const [late] = await app.enqueueMany(calls('alice', 1))
  expect(late?.decision?.outcome).toBe('wait')
  for (const ticket of [...tickets.slice(11), late]) await app.cancel(ticket?.id ?? '')
})

test('many lines: an override wakes its calls wherever their line stands', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  const started: string[] = []
  tollgate.worker(async (call) => void started.push(call.user ?? ''))
  const users = Array.from({ length: 80 }, (_, index) => `user-${index}`)
  const tickets = await tollgate.enqueueMany(users.flatMap((user) => calls(user, 2)))
  await until('one call of each user has started', () => started.length === 80)
  for (const user of ['user-0', 'user-40', 'user-79']) {
    await tollgate.overrides.grant({ for: { user }, ...UNLIMITED })
    await until(`the other call of ${user} has started`, () => started.filter((one) => one === user).length === 2, 5000)
  }
  expect(started).toHaveLength(83)
  await Promise.all(tickets.map(({ id }) => codeOf(tollgate.cancel(id))))
})

test('a call that a process put in line which had not heard of an override is woken all the same', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  const started: string[] = []
  tollgate.worker(async (_call, { id }) => void started.push(id))
  await tollgate.enqueue({ agent: 'llm', user: 'alice' })
  await until('the first has started', () => started.length === 1)
  // An Enqueuer with the rules as they were before the override.
  const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
  const results = new Results(queue, namespace.redis)
  onTestFinished(async () => {
    await results.close()
    await queue.close()
  })
  const scriptClient = realScriptClient(namespace, RULES)
  const late = new Enqueuer({
    metrics: new CallMetrics(),
    scriptClient,
    redis: namespace.redis,
    queue,
    queueStates: new QueueStates(namespace.redis, namespace.keys),
    results,
    strategyResolver: new StrategyResolver(scriptClient, {}, pino({ level: 'silent' })),
    attempts: undefined,
    maxPayloadBytes: 1_000_000,
    timeoutMs: DEFAULTS.enqueueTimeoutMs,
  })
  // Between the first two looks of the dispatcher at the lines that the override moves; a slow machine tries again.
  for (;;) {
    const id = await tollgate.overrides.grant({ for: { user: 'alice' }, ...UNLIMITED })
    const grantedAt = performance.now()
    await sleep(DEFAULTS.lookAgainMs / 4)
    const ticket = await late.enqueue({ agent: 'llm', user: 'alice' })
    expect(ticket.decision).toMatchObject({ outcome: 'wait', binding: { rule: 'per-user' } })
    if (performance.now() - grantedAt < (DEFAULTS.lookAgainMs * 3) / 4) {
      await until('it has started', () => started.includes(ticket.id))
      return
    }
    await tollgate.overrides.revoke(id)
    await codeOf(tollgate.cancel(ticket.id))
  }
})

test('calls with a pass from before an override leave nothing claimed when it ends', async () => {
  const namespace = newNamespace()
  const rules: RuleSpec[] = [{ name: 'per-user', scope: 'user', limits: [{ requests: 5, per: 'hour' }] }]
  const app = await namespace.open({ rules })
  const tickets = await app.enqueueMany(calls('alice', 5))
  expect(tickets.map(({ decision }) => decision?.outcome)).toEqual(Array(5).fill('run'))
  const id = await app.overrides.grant({ for: { user: 'alice' }, ...UNLIMITED })
  let done = 0
  const worker = await namespace.open()
  worker.worker(async () => void done++)
  await until('all have run', () => done === 5)
  await app.overrides.revoke(id)
  const { usage } = await app.gate.peek({ agent: 'llm', user: 'alice' })
  expect(usage.map(({ used, claimed }) => [used, claimed])).toEqual([[0, 0]])
})

test('a call that was charged before an override settles at the meter that was charged', async () => {
  const namespace = newNamespace()
  const rules: RuleSpec[] = [{ name: 'per-user', scope: 'user', limits: [{ tokens: 100, per: 'hour', algorithm: 'fixed_window' }] }]
  const tollgate = await namespace.open({ rules })
  const grant = await tollgate.gate.admit({ agent: 'llm', user: 'alice', cost: { tokens: 80 } })
  const id = await tollgate.overrides.grant({ for: { user: 'alice' }, ...UNLIMITED })
  const free = await tollgate.gate.admit({ agent: 'llm', user: 'alice', cost: { tokens: 90 } })
  await grant.settle({ tokens: 30 })
  await tollgate.overrides.revoke(id)
  await free.settle({ tokens: 10 })
  const { usage } = await tollgate.gate.peek({ agent: 'llm', user: 'alice' })
  expect(usage[0]?.used).toBe(30)
})

/** A process whose clock is off: it grants an override, waits until that has ended, and prints it. */
function grantElsewhere(namespace: Namespace, offMs: number): Script {
  return new Script(
    `
const real = Date.now
Date.now = () => real() + ${offMs}
const tollgate = await Tollgate.open({ redis: '${namespace.url}', namespace: '${namespace.name}' })
await tollgate.overrides.grant({ for: { user: 'alice' }, allow: 'unlimited', reason: 'testing', by: 'ops', forMs: 1500 })
const [granted] = tollgate.overrides.list()
while (tollgate.overrides.list().length > 0) await new Promise((resolve) => setTimeout(resolve, 10))
await tollgate.close()
console.log(JSON.stringify(granted))`,
  )
}

test.each([-HOUR, HOUR])('a process whose clock is %i ms off agrees with the others on when an override ends', async (offMs) => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  const other = grantElsewhere(namespace, offMs)
  await until('this process knows of it', () => tollgate.overrides.list().length === 1)
  await until('it has ended in this process', () => tollgate.overrides.list().length === 0)
  const granted = (await other.result()) as { id: string; until: string }
  const [ended] = await tollgate.overrides.audit({ what: 'override.ended' })
  expect(ended?.subject).toBe(granted.id)
  expect(Date.parse(ended?.at ?? '')).toBeGreaterThanOrEqual(Date.parse(granted.until))
  const [seconds] = await namespace.redis.time()
  expect(Number(seconds) * 1000 - Date.parse(granted.until)).toBeLessThan(60_000)
})

test('an override ends by Redis’ clock for all processes, whichever clock they have', async () => {
  const namespace = newNamespace()
  const clocks = [new GivenClock(T0), new GivenClock(T0)] as const
  const [one, other] = [await namespace.open({ rules: RULES, clock: clocks[0] }), await namespace.open({ clock: clocks[1] })]
  await one.overrides.grant({ for: { user: 'alice' }, ...UNLIMITED })
  await until('the other process knows of it', () => other.overrides.list().length === 1)
  clocks[1].advance(HOUR)
  await until('it has ended in both processes', () => one.overrides.list().length + other.overrides.list().length === 0)
})

test('overrides that are granted and revoked at the same time by several processes are all kept, and all in the audit', async () => {
  const namespace = newNamespace()
  const tollgates = await Promise.all(Array.from({ length: 3 }, () => namespace.open({ rules: RULES })))
  const ids = await Promise.all(
    Array.from({ length: 12 }, (_, index) =>
      (tollgates[index % 3] as Tollgate).overrides.grant({ for: { user: `u${index}` }, ...UNLIMITED, by: `by-${index}` }),
    ),
  )
  await Promise.all([
    ...ids.slice(0, 6).map((id, index) => (tollgates[(index + 1) % 3] as Tollgate).overrides.revoke(id, { by: 'ops' })),
    ...tollgates.map((tollgate, index) => tollgate.pause({ org: `o${index}` })),
    (tollgates[0] as Tollgate).rules.apply([]),
  ])
  const after = await namespace.open()
  expect(new Set(after.overrides.list().map(({ id }) => id))).toEqual(new Set(ids.slice(6)))
  expect(after.paused()).toHaveLength(3)
  expect(after.rules.list()).toEqual([])
  const audit = await after.overrides.audit({ limit: 1000 })
  const count = (what: string) => audit.filter((entry) => entry.what === what).length
  expect([count('override.granted'), count('override.revoked'), count('calls.paused'), count('rules.declared')]).toEqual([12, 6, 3, 2])
  expect(audit.map(({ id }) => id)).toEqual([...new Set(audit.map(({ id }) => id))])
})

test('the first process that sees the end of an override notes it, once, also after the rules were read again', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  await namespace.open()
  await tollgate.overrides.grant({ for: { user: 'alice' }, ...UNLIMITED, forMs: DEFAULTS.rulesRefreshMs + 500 })
  const stored = async () => JSON.parse((await namespace.redis.hget(namespace.keys.rules, 'overrides')) ?? '[]') as unknown[]
  expect(await stored()).toHaveLength(1)
  await until('it is gone from the stored policy', async () => (await stored()).length === 0)
  const entries = await namespace.redis.xrange(namespace.keys.audit, '-', '+')
  expect(entries.filter(([, fields]) => fields.includes('override.ended'))).toHaveLength(1)
})
