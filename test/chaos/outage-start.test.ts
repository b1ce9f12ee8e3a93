import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { type RuleSpec, Tollgate } from '../../src/index.js'
import { ownRedis, untilBack } from '../support/outage.js'
import { codeOf } from '../support/place.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  {
    name: 'r',
    scope: 'agent',
    limits: [{ requests: 40, per: 'hour', algorithm: 'fixed_window' }],
  },
]
const QUICK = { connectTimeoutMs: 300, storeTimeoutMs: 200, enqueueTimeoutMs: 400 }
const CALL = { agent: 'llm' }

/** How many of so many calls the gate lets in. */
async function letIn(tollgate: Tollgate, calls: number): Promise<number> {
  return (await Promise.all(Array.from({ length: calls }, () => tollgate.gate.admit(CALL)))).filter(({ allowed }) => allowed).length
}

test('a process comes up without its Redis on its share, and goes over to it, with what it used and declares', async () => {
  const { server, namespace } = await ownRedis()
  await server.kill()
  const tollgate = await namespace.open({ ...QUICK, rules: RULES, processes: 2 })
  expect(tollgate.stats.outage()).toMatchObject({ away: true, outages: 1 })
  // A tenth of half of the window.
  expect(await letIn(tollgate, 10)).toBe(2)
  expect(await codeOf(tollgate.enqueue(CALL))).toBe('STORE_UNAVAILABLE')
  const done: string[] = []
  tollgate.worker(async (call) => void done.push(call.agent))
  await server.start()
  await untilBack(tollgate)
  expect((await tollgate.gate.peek(CALL)).usage[0]?.used).toBe(2)
  expect(tollgate.rules.list()).toHaveLength(1)
  expect((await tollgate.overrides.audit()).map(({ what }) => what)).toEqual(['rules.declared'])
  await (await tollgate.enqueue(CALL)).result({ signal: AbortSignal.timeout(10_000) })
  expect(done).toEqual(['llm'])
  // Another process' changes are heard: the subscription is there.
  const other = await namespace.open()
  await other.pause({ agent: 'llm' })
  await until('the pause is heard', () => tollgate.paused().length === 1)
})

test('a Redis that stands still at the start is one that is away', async () => {
  const { server, namespace } = await ownRedis()
  server.pause()
  const tollgate = await namespace.open({ ...QUICK, rules: RULES })
  expect(await letIn(tollgate, 10)).toBe(4)
  server.resume()
  await untilBack(tollgate)
  expect(await letIn(tollgate, 40)).toBe(36)
})

test('without rules of its own a process lets in nothing under local until it knows those of the namespace', async () => {
  const { server, namespace } = await ownRedis()
  const before = await namespace.open({ rules: RULES })
  await letIn(before, 3)
  await before.close()
  await server.kill()
  const [local, open, closed] = await Promise.all(
    (['local', 'open', 'closed'] as const).map((onStoreError) => namespace.open({ ...QUICK, onStoreError, maxUnchecked: 5 })),
  )
  expect(await letIn(local as Tollgate, 10)).toBe(0)
  expect((await (local as Tollgate).gate.admit(CALL)).decision).toMatchObject({ reason: 'unavailable' })
  expect(await letIn(open as Tollgate, 10)).toBe(5)
  expect(await letIn(closed as Tollgate, 10)).toBe(0)
  // A limiter by key knows its limits.
  expect((await (local as Tollgate).limiter({ requests: 10, per: 'hour', algorithm: 'fixed_window' }).check('k')).allowed).toBe(true)
  await server.start()
  for (const tollgate of [local, open, closed]) {
    await untilBack(tollgate as Tollgate)
    expect((tollgate as Tollgate).rules.list()).toHaveLength(1)
  }
})

test('requireRedis fails as before, and requireRules where the process has no rules of its own', async () => {
  const { server, namespace } = await ownRedis()
  await server.kill()
  const open = (options: object) => Tollgate.open({ redis: server.url, namespace: namespace.name, ...QUICK, ...options })
  expect(await codeOf(open({ rules: RULES, requireRedis: true }))).toBe('REDIS_UNAVAILABLE')
  expect(await codeOf(open({ requireRules: true }))).toBe('REDIS_UNAVAILABLE')
  const tollgate = await open({ rules: RULES, requireRules: true })
  onTestFinished(() => tollgate.close())
  expect(await letIn(tollgate, 10)).toBe(4)
  await server.start()
})

test('rules that Redis cannot take keep the process on its share, and are said once', async () => {
  const { server, namespace } = await ownRedis()
  const first = await namespace.open()
  await first.rules.add({ name: 'r', scope: 'user', limits: [{ requests: 1, per: 'day' }] })
  await first.close()
  await server.kill()
  const said: string[] = []
  const logger = pino({ level: 'error' }, { write: (line) => void said.push(JSON.parse(line).err.code) })
  const tollgate = await namespace.open({ ...QUICK, rules: RULES, logger })
  await server.start()
  await until('it is said', () => said.length > 0)
  expect(await letIn(tollgate, 10)).toBe(4)
  expect(tollgate.stats.outage().away).toBe(true)
  await namespace.redis.del(namespace.keys.rules)
  await untilBack(tollgate)
  expect(said).toEqual(['RULES_INVALID'])
})
