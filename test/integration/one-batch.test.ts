import { expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import { AS_ESTIMATED } from '../../src/model/cost.js'
import { GivenClock, redisClock } from '../../src/model/time.js'
import { ScriptClient } from '../../src/store/redis/script-client.js'
import { newNamespace } from '../support/namespace.js'
import { givenScriptClient, requestOf, resolverOf } from '../support/script-client.js'

const HOURLY: RuleSpec = { name: 'hourly', scope: 'agent', limits: [{ requests: 100, per: 'hour', algorithm: 'fixed_window' }] }

test('newcomers without room have to be sent again where their batch was sent without calls to store in a line', async () => {
  const { scriptClient } = givenScriptClient(newNamespace(), [
    { name: 'few', scope: 'agent', limits: [{ requests: 3, per: 'minute', algorithm: 'fixed_window' }] },
    { name: 'many', scope: 'user', limits: [{ requests: 100, per: 'minute', algorithm: 'fixed_window' }] },
  ])
  const call = { agent: 'openai', user: 'ann' }
  // Creates both meters; no line exists.
  await scriptClient.check([requestOf(scriptClient, 'first', call)])
  const requests = Array.from({ length: 6 }, (_, index) => ({ ...requestOf(scriptClient, `c${index}`, call, 'shared'), token: String(index) }))
  const decisions = await scriptClient.start(requests, [], false)
  expect(decisions.map(({ outcome }) => outcome)).toEqual(['run', 'run', 'again', 'again', 'again', 'again'])
})

test('a call that is admitted twice under one id in one batch is charged once, and has one ledger entry', async () => {
  const tollgate = await newNamespace().open({ rules: [HOURLY] })
  const call = { id: 'one', agent: 'openai' }
  const [grant, other] = await Promise.all([tollgate.gate.admit(call), tollgate.gate.admit(call)])
  expect([grant.allowed, other.allowed]).toEqual([true, true])
  expect((await tollgate.gate.peek({ agent: 'openai' })).usage[0]?.used).toBe(1)
  expect(await tollgate.stats.ledger()).toMatchObject({ open: 1 })
  expect([await grant.settle(), await other.settle()]).toEqual([true, false])
  expect(await tollgate.stats.ledger()).toMatchObject({ open: 0, settled: 1 })
})

test('a call that is enqueued twice at once claims its room once', async () => {
  const tollgate = await newNamespace().open({ rules: [HOURLY] })
  const call = { id: 'one', agent: 'openai' }
  await tollgate.enqueueMany([call, call])
  expect((await tollgate.gate.peek({ agent: 'openai' })).usage[0]?.claimed).toBe(1)
  await tollgate.cancel('one')
  expect((await tollgate.gate.peek({ agent: 'openai' })).usage[0]?.claimed).toBe(0)
})

test('limiters of one name in one batch both answer the room left after both checks', async () => {
  const tollgate = await newNamespace().open()
  const limit = { requests: 100, per: 'hour', algorithm: 'fixed_window' } as const
  const answers = await Promise.all([tollgate.limiter(limit).check('ann'), tollgate.limiter(limit).check('ann')])
  expect(answers.map(({ remaining }) => remaining)).toEqual([98, 98])
})

test('a clock set back by less than a step opens no window twice, on the clock that keys end by', async () => {
  const namespace = newNamespace()
  const rules: RuleSpec[] = [{ name: 'short', scope: 'agent', limits: [{ requests: 3, per: '2s', algorithm: 'fixed_window' }] }]
  const scriptClient = new ScriptClient(namespace.redis, resolverOf(namespace, rules), redisClock)
  const nextMs = (Math.floor(Date.now() / 2000) + 2) * 2000
  const ahead = new ScriptClient(namespace.redis, resolverOf(namespace, rules), new GivenClock(nextMs + 500))
  const charge = async (by: ScriptClient, id: string) => (await by.check([requestOf(by, id, { agent: 'openai' })]))[0]?.outcome
  expect([await charge(ahead, 'a'), await charge(ahead, 'b'), await charge(scriptClient, 'c')]).toEqual(['run', 'run', 'run'])
  await new Promise((resolve) => setTimeout(resolve, nextMs + 200 - Date.now()))
  expect(await charge(scriptClient, 'd')).toBe('reject')
})

test('a process with rules replaces stored rules that it cannot read; one without rules fails to open', async () => {
  const namespace = newNamespace()
  const theirs = [{ name: 'theirs', scope: 'agent', limits: [{ requests: 1, per: 'hour', fieldOfAnotherVersion: 1 }] }]
  await namespace.redis.hset(namespace.keys.rules, { version: 'other', rules: JSON.stringify(theirs), prices: '{}', added: '[]' })
  await expect(namespace.open()).rejects.toMatchObject({ code: 'RULES_INVALID' })
  const tollgate = await namespace.open({ rules: [HOURLY] })
  expect((await tollgate.gate.admit({ agent: 'openai' })).usage[0]?.rule).toBe('hourly')
})

test('limiters of one name with different limits each hold their own limit, in one batch', async () => {
  const tollgate = await newNamespace().open()
  const big = tollgate.limiter({ name: 'shared', requests: 1000, per: 'hour', algorithm: 'fixed_window' })
  const small = tollgate.limiter({ name: 'shared', requests: 10, per: 'hour', algorithm: 'fixed_window' })
  const [first, ...others] = await Promise.all([big.check('ann'), ...Array.from({ length: 30 }, () => small.check('ann'))])
  expect(first?.allowed).toBe(true)
  expect(others.filter(({ allowed }) => allowed)).toHaveLength(9)
  expect((await Promise.all([small.peek('ann'), big.peek('ann')])).map(({ allowed }) => allowed)).toEqual([false, true])
})

test('entries that were never settled are counted as expired, and leave no field behind', async () => {
  const namespace = newNamespace()
  const clock = new GivenClock(1_800_000_000_000)
  const tollgate = await namespace.open({ rules: [HOURLY], clock })
  for (let hour = 0; hour < 40; hour++) {
    await tollgate.gate.admit({ agent: 'openai' })
    clock.advance(3_600_000)
  }
  expect(await tollgate.stats.ledger()).toMatchObject({ open: 24, expired: 16 })
  expect((await namespace.redis.hkeys(namespace.keys.figures)).filter((field) => field.startsWith('open:')).length).toBeLessThanOrEqual(26)
})

test('calls of one batch whose rules count other units are each settled at their own costs', async () => {
  const namespace = newNamespace()
  const { scriptClient } = givenScriptClient(namespace, [{ name: 'tokens', scope: 'org', limits: [{ tokens: 1000, per: 'hour', algorithm: 'fixed_window' }] }])
  const other = givenScriptClient(namespace, [
    { name: 'requests', scope: 'org', limits: [{ requests: 1000, per: 'hour', algorithm: 'fixed_window' }] },
  ]).scriptClient
  const cost = { tokens: 100, requests: 3 }
  const requests = [
    requestOf(scriptClient, 'a', { agent: 'openai', org: 'acme', cost }, 'shared'),
    { ...requestOf(other, 'b', { agent: 'openai', org: 'acme', cost }, 'shared'), token: '1' },
  ]
  await scriptClient.check(requests)
  await scriptClient.settle(requests.map((one) => ({ request: one, actual: { ...AS_ESTIMATED, tokens: 40, requests: 2 } })))
  const used = async (by: ScriptClient) => (await by.peek([requestOf(by, 'peek', { agent: 'openai', org: 'acme' })]))[0]?.usage[0]?.used
  expect([await used(scriptClient), await used(other)]).toEqual([40, 2])
})
