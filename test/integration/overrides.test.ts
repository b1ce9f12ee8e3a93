import { describe, expect, test } from 'vitest'
import { type Call, GivenClock, type GrantSpec, type RuleSpec } from '../../src/index.js'
import { newPlace, PLACES, usedBy } from '../support/place.js'
import { T0 } from '../support/script-client.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [
  { name: 'per-user', scope: 'user', limits: [{ requests: 2, per: 'day' }] },
  { name: 'pair', scope: ['user', 'agent'], limits: [{ requests: 3, per: 'day' }] },
  { name: 'account', scope: 'agent', limits: [{ requests: 20, per: 'day' }] },
]
const HOUR = 3_600_000
const ALICE: Call = { agent: 'llm', user: 'alice' }
const BOB: Call = { agent: 'llm', user: 'bob' }

function grant(spec: Partial<GrantSpec>): GrantSpec {
  return { for: { user: 'alice' }, allow: 'unlimited', reason: 'incident', by: 'ops', forMs: HOUR, ...spec }
}

describe.each(PLACES)('in %s', (place) => {
  /** How many calls pass before one is refused, of 30. */
  async function passing(tollgate: Awaited<ReturnType<ReturnType<typeof newPlace>['open']>>, call: Call): Promise<number> {
    for (let passed = 0; passed < 30; passed++) if (!(await tollgate.gate.admit(call)).allowed) return passed
    return 30
  }

  test('an unlimited override lifts the rules that count by its subject, and no others', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await tollgate.overrides.grant(grant({}))
    expect(await passing(tollgate, ALICE)).toBe(20)
    expect((await tollgate.gate.peek(ALICE)).limitExceeded).toBe('account/requests/day')
    expect((await tollgate.gate.peek(ALICE)).usage.map(({ rule }) => rule)).toEqual(['account'])
    expect(await passing(tollgate, { ...BOB, agent: 'other' })).toBe(2)
  })

  test('usage under an unlimited override is not counted, and earlier usage is still there when it ends', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await tollgate.gate.admit(ALICE)
    const id = await tollgate.overrides.grant(grant({}))
    expect(await passing(tollgate, { ...ALICE, agent: 'other' })).toBe(20)
    expect(await tollgate.overrides.revoke(id, { by: 'ops' })).toBe(true)
    expect(await usedBy(tollgate, { ...ALICE, agent: 'third' }, 'requests/day')).toBeCloseTo(1, 1)
    expect(await passing(tollgate, { ...ALICE, agent: 'third' })).toBe(1)
    expect(await tollgate.overrides.revoke(id)).toBe(false)
  })

  test('the own limits of an override leave the usage of the rule alone, whenever calls are settled', async () => {
    const rules: RuleSpec[] = [{ name: 'per-user', scope: 'user', limits: [{ name: 'daily', tokens: 100, per: 'day', algorithm: 'fixed_window' }] }]
    const tollgate = await newPlace(place).open({ rules })
    const call = { ...ALICE, cost: { tokens: 40 } }
    const before = await tollgate.gate.admit(call)
    const id = await tollgate.overrides.grant(grant({ allow: { limits: [{ name: 'own', tokens: 1000, per: 'day', algorithm: 'fixed_window' }] } }))
    const during = await tollgate.gate.admit({ ...call, cost: { tokens: 500 } })
    expect(during.usage.map(({ limit, used }) => [limit, used])).toEqual([['own', 500]])
    await before.settle({ tokens: 30 })
    await tollgate.overrides.revoke(id)
    expect(await usedBy(tollgate, call, 'daily')).toBe(30)
    await during.settle({ tokens: 450 })
    expect(await usedBy(tollgate, call, 'daily')).toBe(30)
  })

  test.each<[string, Partial<GrantSpec>, number]>([
    ['limits times a number', { for: { user: 'alice' }, rules: ['per-user'], allow: { times: 1.5 } }, 3],
    ['less than a rule allows', { for: { user: 'alice' }, rules: ['per-user'], allow: { times: 0.5 } }, 1],
    ['limits of its own', { for: { user: 'alice' }, rules: ['per-*'], allow: { limits: [{ requests: 1, per: 'day' }] } }, 1],
    ['a rule', { for: { rule: 'per-user' }, allow: 'unlimited' }, 3],
    ['an agent: only rules that count by agents', { for: { agent: 'llm' }, allow: 'unlimited' }, 2],
    ['another user', { for: { user: 'bob' }, allow: 'unlimited' }, 2],
    ['another part of the scope that has the same value', { for: { org: 'alice' }, allow: 'unlimited' }, 2],
  ])('an override for %s', async (_what, spec, passes) => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await tollgate.overrides.grant(grant(spec))
    expect(await passing(tollgate, ALICE)).toBe(passes)
  })

  test('a limit of an override may count what no rule counts', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await tollgate.overrides.grant(grant({ rules: ['per-user'], allow: { limits: [{ tokens: 100, per: 'day' }] } }))
    const call = { ...ALICE, cost: { tokens: 60 } }
    expect((await tollgate.gate.admit(call)).allowed).toBe(true)
    expect((await tollgate.gate.admit(call)).limitExceeded).toBe('per-user/tokens/day')
  })

  test('of several overrides unlimited decides, then the latest of those with limits of their own, then the largest factor', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    const decides = () => tollgate.overrides.find(ALICE).map(({ rule, allow }) => [rule, allow])
    const rules = ['per-user']
    await tollgate.overrides.grant(grant({ rules, allow: { times: 3 } }))
    await tollgate.overrides.grant(grant({ rules, allow: { times: 2 } }))
    expect(decides()).toEqual([['per-user', { times: 3 }]])
    await tollgate.overrides.grant(grant({ rules, allow: { limits: [{ requests: 1, per: 'day' }] } }))
    await tollgate.overrides.grant(grant({ rules, allow: { limits: [{ requests: 5, per: 'day' }] } }))
    expect(decides()).toEqual([['per-user', { limits: [{ requests: 5, per: 'day' }] }]])
    const unlimited = await tollgate.overrides.grant(grant({ rules }))
    expect(decides()).toEqual([['per-user', 'unlimited']])
    expect(tollgate.overrides.find(ALICE)[0]?.override?.id).toBe(unlimited)
    expect(tollgate.overrides.list()).toHaveLength(5)
    expect(tollgate.overrides.find(BOB)).toEqual([])
  })

  test('an override for a range of addresses covers them, however they are spelt', async () => {
    const rules: RuleSpec[] = [{ name: 'ip', scope: 'ip', limits: [{ requests: 1, per: 'day' }] }]
    const tollgate = await newPlace(place).open({ rules })
    await tollgate.overrides.grant(grant({ for: { ip: '10.1.0.0/16' } }))
    await tollgate.overrides.grant(grant({ for: { ip: '2001:DB8:0:0::1' } }))
    const from = (ip: string) => tollgate.overrides.find({ agent: 'llm', ip }).length
    expect(['10.1.2.3', '::ffff:10.1.2.3', '2001:db8::1'].map(from)).toEqual([1, 1, 1])
    expect(['10.2.0.1', '::ffff:10.2.0.1', '2001:db8::2'].map(from)).toEqual([0, 0, 0])
    for (let i = 0; i < 5; i++) expect((await tollgate.gate.admit({ agent: 'llm', ip: i % 2 ? '10.1.2.3' : '::ffff:10.1.2.3' })).allowed).toBe(true)
  })

  test('a user on a permanent list is unlimited until the rules are declared without the list', async () => {
    const exempt = { users: ['root', 'admin-*'], ips: ['10.0.0.0/8'] }
    const tollgate = await newPlace(place).open({ rules: RULES, exempt })
    for (const user of ['root', 'admin-eve']) expect(await passing(tollgate, { agent: user, user })).toBe(20)
    expect(await passing(tollgate, ALICE)).toBe(2)
    expect(tollgate.overrides.find({ agent: 'llm', user: 'root' })).toEqual([
      { rule: 'per-user', allow: 'unlimited', override: null },
      { rule: 'pair', allow: 'unlimited', override: null },
    ])
    await tollgate.rules.apply(RULES)
    expect(await passing(tollgate, { agent: 'third', user: 'root' })).toBe(2)
  })

  test('an override ends by the clock of the store', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open({ rules: RULES })
    await tollgate.overrides.grant(grant({ forMs: HOUR }))
    await tollgate.overrides.grant(grant({ for: { user: 'bob' }, forMs: undefined, until: new Date(T0 + 2 * HOUR) }))
    expect(tollgate.overrides.list().map((one) => one.until)).toEqual([new Date(T0 + HOUR).toISOString(), new Date(T0 + 2 * HOUR).toISOString()])
    clock.advance(HOUR - 1)
    expect(await passing(tollgate, { ...ALICE, agent: 'other' })).toBe(20)
    clock.advance(1)
    await until('the first has ended', () => tollgate.overrides.list().length === 1)
    expect(tollgate.overrides.find(ALICE)).toEqual([])
    expect(await passing(tollgate, ALICE)).toBe(2)
    clock.advance(HOUR)
    await until('the second has ended', () => tollgate.overrides.list().length === 0)
    const ended = await tollgate.overrides.audit({ what: 'override.ended' })
    expect(ended.map(({ by, at, before }) => [by, at, (before as { for: object }).for])).toEqual([
      ['tollgate', new Date(T0 + 2 * HOUR).toISOString(), { user: 'bob' }],
      ['tollgate', new Date(T0 + HOUR).toISOString(), { user: 'alice' }],
    ])
  })

  test('a call that waits in acquire goes on at once when an override gives room', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    expect(await passing(tollgate, ALICE)).toBe(2)
    const waiting = tollgate.gate.acquire(ALICE)
    await tollgate.overrides.grant(grant({}))
    expect((await waiting).allowed).toBe(true)
  })

  test.each<[string, object, RegExp]>([
    ['no subject', { for: {} }, /^for: must name exactly one of user, team, org, ip, agent, rule \(got \{\}\)$/],
    ['two subjects', { for: { user: 'a', org: 'b' } }, /^for: must name exactly one of/],
    ['an unknown subject', { for: { model: 'gpt' } }, /^for\.model: is not a known field \(got "gpt"\)$/],
    ['an empty name', { for: { user: '' } }, /^for\.user: .* \(got ""\)$/],
    ['a bad address', { for: { ip: '10.0.0.0/33' } }, /^for\.ip: must be an IP address or a CIDR range such as 10\.0\.0\.0\/8 \(got "10\.0\.0\.0\/33"\)$/],
    ['no rules', { rules: [] }, /^rules: .* \(got \[\]\)$/],
    ['nothing allowed', { allow: undefined }, /^allow: must be "unlimited", .* \(got undefined\)$/],
    ['a factor of 0', { allow: { times: 0 } }, /^allow.*: .*\(got .*0/],
    ['a factor too large', { allow: { times: 1e7 } }, /^allow.*: .*\(got .*10000000/],
    ['limits that are none', { allow: { limits: [{ requests: 5 }] } }, /^allow\.limits\.0\.per is required: the window of the limit \(got undefined\)$/],
    [
      'limits that contradict',
      {
        allow: {
          limits: [
            { requests: 5, per: 'day' },
            { requests: 6, per: 'day' },
          ],
        },
      },
      /^allow\.limits\.1 contradicts limits\.0/,
    ],
    ['an unknown reason', { reason: 'because' }, /^reason: .* \(got "because"\)$/],
    ['text too long', { text: 'x'.repeat(1001) }, /^text: .*1000/],
    ['no actor', { by: undefined }, /^by: .* \(got undefined\)$/],
    ['a control character in the actor', { by: 'a\u0000' }, /^by: must be text without control characters/],
    ['no end', { forMs: undefined }, /^forMs: or until is required, and one of them only: every override has an end \(got undefined\)$/],
    ['two ends', { until: '2099-01-01T00:00:00Z' }, /^forMs: or until is required/],
    ['an end too far ahead', { forMs: 8 * 24 * HOUR }, /^forMs: must be at most 604800000 ms ahead, .* \(got 691200000\)$/],
    ['an end that has passed', { forMs: undefined, until: '2020-01-01T00:00:00Z' }, /^until: must be ahead \(got 2020-01-01T00:00:00\.000Z/],
    ['an end that is no time', { forMs: undefined, until: 'tomorrow' }, /^until: must be a date, or a time in ISO 8601 .* \(got "tomorrow"\)$/],
    ['an unknown field', { whom: 'alice' }, /^whom: is not a known field \(got "alice"\)$/],
  ])('an override with %s is refused, naming field, value and bound, and changes nothing', async (_what, spec, message) => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    await expect(tollgate.overrides.grant({ ...grant({}), ...spec } as GrantSpec)).rejects.toThrow(
      expect.objectContaining({ code: 'REQUEST_INVALID', message: expect.stringMatching(message) }),
    )
    expect(tollgate.overrides.list()).toEqual([])
    expect(await tollgate.overrides.audit({ what: 'override.granted' })).toEqual([])
  })

  test('the longest override and the actor can be set once for a process', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES, longestOverrideMs: 1000, actor: 'support' })
    await expect(tollgate.overrides.grant(grant({ forMs: 1001 }))).rejects.toThrow(/^forMs: must be at most 1000 ms ahead/)
    await tollgate.overrides.grant(grant({ forMs: 1000, by: undefined }))
    expect(tollgate.overrides.list()[0]?.by).toBe('support')
  })
})
