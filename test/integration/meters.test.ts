import { expect, onTestFinished, test } from 'vitest'
import { type RuleSpec, Tollgate, UpstreamLimited } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf } from '../support/place.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  { name: 'account', scope: 'global', limits: [{ requests: 2, per: 'hour', algorithm: 'fixed_window' }] },
  { name: 'pair', scope: ['user', 'agent'], match: { users: ['*'] }, limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' }, { concurrency: 1 }] },
]

async function inMemory(): Promise<Tollgate> {
  const redisUrl = process.env['REDIS_URL']
  delete process.env['REDIS_URL']
  const tollgate = await Tollgate.open({ rules: RULES, actor: 'me' })
  if (redisUrl !== undefined) process.env['REDIS_URL'] = redisUrl
  onTestFinished(() => tollgate.close())
  return tollgate
}

test.each([
  ['in memory', inMemory],
  ['in Redis', () => newNamespace().open({ rules: RULES, actor: 'me' })],
] as const)('meters are read and reset by rule and scope value, and it is in the audit: %s', async (_, open) => {
  const tollgate = await open()
  const call = { agent: 'a', user: 'ann b' }
  const grant = await tollgate.gate.admit(call)
  expect([grant.allowed, (await tollgate.gate.admit(call)).allowed]).toEqual([true, false])
  const used = async () => (await tollgate.meters.get({ rule: 'pair', value: ['ann b', 'a'] })).map((one) => one.used)
  expect(await used()).toEqual([1, 1])
  await tollgate.meters.reset({ rule: 'pair', value: ['ann b', 'a'], by: 'ops' })
  expect(await used()).toEqual([0, 0])
  const [{ scopeValue = '' } = {}] = await tollgate.meters.get({ rule: 'pair', value: ['ann b', 'a'] })
  // As decisions show it.
  expect(scopeValue).toBe('ann%20b|a')
  expect((await tollgate.gate.admit(call)).allowed).toBe(true)
  await tollgate.meters.reset({ rule: 'pair', value: scopeValue })
  expect(await used()).toEqual([0, 0])
  expect((await tollgate.gate.admit(call)).limitExceeded).toBe('account/requests/hour')
  await tollgate.meters.reset({ rule: 'account' })
  expect((await tollgate.gate.admit(call)).allowed).toBe(true)
  const audit = (await tollgate.overrides.audit({ what: 'meter.reset' })).map(({ by, subject, before }) => [by, subject, before])
  expect(audit).toEqual([
    ['me', 'account/*', { 'account/requests/hour': 2 }],
    ['me', 'pair/ann%20b|a', expect.objectContaining({ 'pair/requests/day': 1 })],
    ['ops', 'pair/ann%20b|a', expect.objectContaining({ 'pair/requests/day': 1 })],
  ])
  expect(await codeOf(tollgate.meters.reset({ rule: 'none' }))).toBe('RULE_UNKNOWN')
  for (const meter of [
    {},
    { rule: 'pair', value: '' },
    { rule: 'pair', value: 1 },
    { rule: 'pair', value: [] },
    { rule: 'pair', values: 'x' },
    { rule: 'pair', by: '' },
  ])
    expect(await codeOf(tollgate.meters.reset(meter as never))).toBe('REQUEST_INVALID')
  await grant.release()
})

test.each([
  ['in memory', inMemory],
  ['in Redis', () => newNamespace().open({ rules: RULES, actor: 'me' })],
] as const)("an agent's block is lifted by hand, and it is in the audit: %s", async (_, open) => {
  const tollgate = await open()
  const upstream = { agent: 'a', endpoint: '/v1/x' }
  await tollgate.capacity.announce({ ...upstream, retryAfterMs: 60_000 })
  expect((await tollgate.gate.admit(upstream)).decision).toMatchObject({ outcome: 'reject', binding: { rule: '~block' } })
  expect(await tollgate.meters.lift({ agent: 'a' })).toBe(false)
  const changes: string[] = []
  tollgate.capacity.on('change', ({ kind, state }) => changes.push(`${kind} ${state}`))
  expect(await tollgate.meters.lift({ ...upstream, by: 'ops' })).toBe(true)
  expect(changes).toEqual(['lifted open'])
  expect(await tollgate.capacity.get(upstream)).toMatchObject({ state: 'open', factor: 1, blockedMs: 0 })
  expect((await tollgate.gate.admit(upstream)).allowed).toBe(true)
  const [entry] = await tollgate.overrides.audit({ what: 'upstream.lifted' })
  expect(entry).toMatchObject({ by: 'ops', before: { blockedMs: expect.any(Number) } })
  expect(entry?.subject).toMatch(/^a\|\/v1\/x\|/)
  expect(await codeOf(tollgate.meters.lift({} as never))).toBe('REQUEST_INVALID')
})

test('calls that wait for a reset meter or a lifted block go at once, also the one that the agent refused', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'slow', scope: 'user', limits: [{ requests: 1, per: 'hour' }] }] })
  let refuse = true
  tollgate.worker(async ({ agent }) => {
    if (agent === 'down' && refuse) throw new UpstreamLimited({ retryAfterMs: 600_000 })
    return agent
  })
  await (await tollgate.enqueue({ agent: 'a', user: 'u' })).result()
  const waits = await tollgate.enqueue({ agent: 'a', user: 'u' })
  expect(waits.decision?.outcome).toBe('wait')
  await tollgate.meters.reset({ rule: 'slow', value: 'u' })
  expect(await waits.result({ signal: AbortSignal.timeout(5000) })).toBe('a')
  const refused = await tollgate.enqueue({ agent: 'down' })
  await until('it was refused', async () => (await tollgate.explain(refused.id)).waitsFor === 'UPSTREAM')
  const behind = await tollgate.enqueue({ agent: 'down' })
  refuse = false
  await tollgate.meters.lift({ agent: 'down' })
  expect(await Promise.all([refused, behind].map((one) => one.result({ signal: AbortSignal.timeout(10_000) })))).toEqual(['down', 'down'])
})
