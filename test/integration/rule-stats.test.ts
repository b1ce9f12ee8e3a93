import { expect, test } from 'vitest'
import { type RuleSpec, Tollgate } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'

const RULES: RuleSpec[] = [{ name: 'users', scope: 'user', strategy: 'hard', limits: [{ requests: 3, per: 'hour' }] }]

async function tryOften(tollgate: Tollgate): Promise<void> {
  for (let n = 0; n < 8; n++) await tollgate.gate.admit({ agent: 'a', user: n % 4 === 3 ? 'other' : 'eager', ip: '10.0.0.1', endpoint: '/v1/x' })
}

test.each(['Redis', 'memory'])('what a rule has decided is counted in %s, until it is reset', async (where) => {
  const namespace = newNamespace()
  const tollgate =
    where === 'Redis'
      ? await namespace.open({ rules: RULES })
      : await Tollgate.open({ rules: RULES, store: new (await import('../../src/index.js')).MemoryStore() })
  const other = where === 'Redis' ? await namespace.open() : tollgate
  await tryOften(tollgate)
  const stats = await tollgate.stats.rule('users')
  expect(stats).toMatchObject({ rule: 'users', checks: 8, exceeded: 3, exceededByLimit: { 'requests/hour': 3 }, hitRate: 3 / 8, storeErrors: 0, unchecked: 0 })
  expect(stats.averageRemaining['requests/hour']).toBeCloseTo((2 + 1 + 0 + 2 + 0 + 0 + 0 + 1) / 8, 1)
  expect(stats.checkMeanMs).toBeGreaterThan(0)
  expect(stats.checkP95Ms).toBeGreaterThan(0)
  expect(await other.stats.all()).toEqual([stats])
  const { user, ip, endpoint } = await other.stats.violations()
  expect(user).toEqual([{ name: 'eager', count: 3, atMost: 0 }])
  expect(ip).toEqual([{ name: '10.0.0.1', count: 3, atMost: 0 }])
  expect(endpoint).toEqual([{ name: '/v1/x', count: 3, atMost: 0 }])
  await other.stats.reset()
  expect(await tollgate.stats.rule('users')).toMatchObject({ checks: 0, hitRate: 0, exceededByLimit: {}, checkMeanMs: null })
  expect((await tollgate.stats.violations()).user).toEqual([])
  if (where === 'memory') await tollgate.close()
})

test('a list of violations keeps the most frequent among many that come once', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'none', scope: 'global', strategy: 'hard', limits: [{ requests: 0, per: 'hour' }] }] })
  for (let round = 0; round < 5; round++) {
    const users = [...Array.from({ length: 60 }, (_, n) => `guest-${round}-${n}`), ...Array.from({ length: 10 }, () => 'flood')]
    await Promise.all(users.map((user) => tollgate.gate.admit({ agent: 'a', user })))
    await tollgate.stats.violations()
  }
  const [first, ...others] = (await tollgate.stats.violations()).user
  expect(first?.name).toBe('flood')
  expect((first?.count ?? 0) - (first?.atMost ?? 0)).toBeLessThanOrEqual(50)
  expect(first?.count).toBeGreaterThanOrEqual(50)
  expect(others).toHaveLength(19)
})
