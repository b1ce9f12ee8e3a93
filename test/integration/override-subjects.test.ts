import { describe, expect, test } from 'vitest'
import type { GrantSpec, RuleSpec, Tollgate } from '../../src/index.js'
import { DEFAULTS } from '../../src/model/defaults.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf, newPlace, PLACES } from '../support/place.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  { name: 'per-user', scope: 'user', strategy: 'hard', limits: [{ requests: 2, per: 'day' }] },
  { name: 'account', scope: 'agent', strategy: 'hard', limits: [{ requests: 3, per: 'day' }] },
]
const ALICE = { agent: 'llm', user: 'alice' }

function grant(spec: Partial<GrantSpec>): GrantSpec {
  return { for: { user: 'alice' }, allow: 'unlimited', reason: 'incident', by: 'ops', forMs: 3_600_000, ...spec }
}

describe.each(PLACES)('in %s', (place) => {
  const opened = () => newPlace(place).open({ rules: RULES })
  async function passing(tollgate: Tollgate, call: object): Promise<number> {
    for (let passed = 0; passed < 10; passed++) if (!(await tollgate.gate.admit({ agent: 'llm', ...call })).allowed) return passed
    return 10
  }

  test('an override for everything lifts every rule for the calls of its subject, which nothing counts, until it ends', async () => {
    const tollgate = await opened()
    const id = await tollgate.overrides.grant(grant({ everything: true }))
    expect(await passing(tollgate, ALICE)).toBe(10)
    expect((await tollgate.gate.peek(ALICE)).usage).toEqual([])
    expect(tollgate.overrides.find(ALICE).map(({ rule, override }) => [rule, override?.id])).toEqual([
      ['per-user', id],
      ['account', id],
    ])
    expect(await passing(tollgate, { user: 'bob' })).toBe(2)
    await tollgate.overrides.revoke(id, { by: 'ops' })
    expect(await passing(tollgate, ALICE)).toBe(1)
  })

  test('an override for everything may be for some rules only, and for an address', async () => {
    const tollgate = await opened()
    await tollgate.overrides.grant(grant({ for: { ip: '10.0.0.0/8' }, everything: true, rules: ['acc*'] }))
    expect(await passing(tollgate, { ...ALICE, ip: '::ffff:10.1.2.3' })).toBe(2)
    expect(await passing(tollgate, { user: 'bob', ip: '11.0.0.1' })).toBe(2)
    expect(await passing(tollgate, { user: 'carol', ip: '11.0.0.1' })).toBe(1)
  })

  test.each<[string, Partial<GrantSpec>, string]>([
    ['of a factor', { everything: true, allow: { times: 2 } }, 'REQUEST_INVALID: everything: is for an override that is "unlimited"'],
    ['of a rule', { everything: true, for: { rule: 'account' } }, 'REQUEST_INVALID: everything: is for an override that is "unlimited"'],
    ['for every user', { for: { user: '*' } }, 'REQUEST_INVALID: for.user: must be one name, without *'],
    ['for every rule', { for: { rule: '*' } }, 'REQUEST_INVALID: for.rule: must be one name, without *'],
    ['for a rule that is not there', { for: { rule: 'acount' } }, 'RULE_UNKNOWN: no rule is called "acount"'],
    ['for rules that are not there', { rules: ['per-*', 'acount*'] }, 'RULE_UNKNOWN: no rule is called "acount*"'],
  ])('an override %s is refused', async (_what, spec, message) => {
    const tollgate = await opened()
    const error = await tollgate.overrides.grant(grant(spec)).catch((thrown: unknown) => thrown)
    expect(`${(error as { code: string }).code}: ${(error as Error).message}`.slice(0, message.length)).toBe(message)
    expect(tollgate.overrides.list()).toEqual([])
  })

  test('a pause of every agent is refused', async () => {
    expect(await codeOf((await opened()).pause({ agent: '*' }))).toBe('REQUEST_INVALID')
  })

  test('the uses of an override are the calls that were let in under it', async () => {
    const tollgate = await opened()
    const lifts = await tollgate.overrides.grant(grant({ everything: true }))
    const doubles = await tollgate.overrides.grant(grant({ for: { agent: 'llm' }, allow: { times: 2 } }))
    const uses = () => Object.fromEntries(tollgate.overrides.list().map((one) => [one.id, one.uses]))
    expect(uses()).toEqual({ [lifts]: 0, [doubles]: 0 })
    await tollgate.gate.peek(ALICE)
    for (let n = 0; n < 3; n++) await tollgate.gate.admit(ALICE)
    for (let n = 0; n < 9; n++) await tollgate.gate.admit({ agent: 'llm', user: `u${n}` })
    expect(uses()).toEqual({ [lifts]: 3, [doubles]: 6 })
  })

  test('the number of overrides is bounded, and that of pauses', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES, longestOverrideMs: 86_400_000 })
    const most = DEFAULTS.exceptionsAtMost
    const { declared } = await filled(tollgate, most)
    expect(declared).toBe(most)
    await expect(tollgate.overrides.grant(grant({}))).rejects.toThrow(`overrides: must be at most ${most} in force at once; end some first (got ${most + 1})`)
    expect(await codeOf(tollgate.pause({ user: 'one more' }))).toBe('REQUEST_INVALID')
  }, 60_000)
})

/** Writes as many overrides and pauses as there may be, in one change. */
async function filled(tollgate: Tollgate, count: number): Promise<{ declared: number }> {
  await tollgate.overrides.grant(grant({}))
  await tollgate.pause({ user: 'nobody' }, { by: 'ops' })
  const { policyClient } = tollgate as unknown as { policyClient: { change(change: (policy: never) => unknown): Promise<void> } }
  await policyClient.change((policy: { overrides: object[]; pauses: object[] }) => ({
    policy: {
      ...policy,
      overrides: Array.from({ length: count }, (_, n) => ({ ...policy.overrides[0], id: `o${n}` })),
      pauses: Array.from({ length: count }, (_, n) => ({ ...policy.pauses[0], for: { user: `u${n}` } })),
    },
    noted: [{ by: 'ops', what: 'override.granted', subject: 'many', before: null, after: null }],
  }))
  return { declared: tollgate.overrides.list().length }
}

test('uses are summed up over processes, queue and gate alike, and outlive a process', async () => {
  const namespace = newNamespace()
  const [one, other] = [await namespace.open({ rules: RULES }), await namespace.open()]
  const id = await one.overrides.grant(grant({ everything: true }))
  await until('the other process knows the override', () => other.overrides.list().length === 1)
  const worker = other.worker(async () => 'done')
  const tickets = await one.enqueueMany(Array.from({ length: 4 }, () => ALICE))
  expect(await Promise.all(tickets.map((ticket) => ticket.result()))).toEqual(['done', 'done', 'done', 'done'])
  await one.gate.admit(ALICE)
  await until('both processes know the uses', () => one.overrides.list()[0]?.uses === 5 && other.overrides.list()[0]?.uses === 5)
  await worker.close()
  await one.gate.admit(ALICE)
  await one.close()
  const third = await namespace.open()
  expect(third.overrides.list().map((override) => [override.id, override.uses])).toEqual([[id, 6]])
})

test('a waiting call starts when everything is lifted for its user', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'account', scope: 'agent', limits: [{ requests: 1, per: 'hour' }] }] })
  tollgate.worker(async () => 'done')
  const [first, bobs, alices] = await tollgate.enqueueMany([ALICE, { agent: 'llm', user: 'bob' }, ALICE])
  await first?.result()
  expect([bobs?.decision?.outcome, alices?.decision?.outcome]).toEqual(['wait', 'wait'])
  await tollgate.overrides.grant(grant({ everything: true }))
  expect(await alices?.result()).toBe('done')
  expect((await tollgate.explain(bobs?.id as string)).state).toBe('waiting')
  await tollgate.cancel(bobs?.id as string)
})
