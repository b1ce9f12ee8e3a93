import { describe, expect, test } from 'vitest'
import { type AuditQuery, GivenClock, type RuleSpec } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { newPlace, PLACES } from '../support/place.js'
import { T0 } from '../support/script-client.js'

const RULE: RuleSpec = { name: 'r', scope: 'user', limits: [{ requests: 5, per: 'day' }] }
const DAY = 86_400_000

describe.each(PLACES)('in %s', (place) => {
  test('every change is in the audit, newest first, with its time, actor, and the values before and after', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open({ rules: [RULE], actor: 'deploy', auditRetentionMs: 10 * DAY })
    clock.advance(1000)
    await tollgate.rules.apply([RULE], { 'gpt-4o': { input: 1, output: 2 } }, { by: 'ann', exempt: { users: ['root'] } })
    const added = { ...RULE, name: 'more' }
    await tollgate.rules.add(added, { by: 'bob' })
    await tollgate.rules.update('more', { priority: 3 }, { by: 'bob' })
    await tollgate.rules.remove('more', { by: 'bob' })
    await tollgate.setCapacity('openai', 60, 'minute', { by: 'cat' })
    const id = await tollgate.overrides.grant({ for: { user: 'u' }, allow: { times: 2 }, reason: 'other', text: 'why not', by: 'dan', forMs: 1000 })
    await tollgate.overrides.revoke(id, { by: 'eve' })
    await tollgate.pause({ agent: 'llm' }, { by: 'fay', reason: 'down' })
    await tollgate.resume({ agent: 'llm' })
    const limiter = tollgate.limiter({ name: 'mine', requests: 10, per: 'day' })
    await limiter.consume('key', 4)
    await limiter.reset('key')
    const audit = await tollgate.overrides.audit()
    const at = new Date(T0 + 1000).toISOString()
    const override = {
      id,
      for: { user: 'u' },
      allow: { times: 2 },
      reason: 'other',
      text: 'why not',
      by: 'dan',
      grantedAt: at,
      until: new Date(T0 + 2000).toISOString(),
    }
    const pause = { for: { agent: 'llm' }, by: 'fay', reason: 'down', since: at }
    const capacity = expect.objectContaining({ name: 'resource.openai' })
    const prices = { 'gpt-4o': { input: 1, output: 2 } }
    const exempt = { users: ['root'] }
    expect(audit.map(({ at: _at, id: _id, ...rest }) => Object.values(rest).length)).toEqual(audit.map(() => 5))
    expect(audit.map(({ by, what, subject, before, after }) => [by, what, subject, before, after])).toEqual([
      ['deploy', 'limiter.reset', 'mine/key', { 'mine/mine': 4 }, { resets: 1 }],
      ['deploy', 'calls.resumed', 'agent llm', pause, null],
      ['fay', 'calls.paused', 'agent llm', null, pause],
      ['eve', 'override.revoked', id, override, null],
      ['dan', 'override.granted', id, null, override],
      ['cat', 'capacity.set', 'resource.openai', null, capacity],
      ['bob', 'rule.removed', 'more', { ...RULE, name: 'more', priority: 3 }, null],
      ['bob', 'rule.updated', 'more', added, { ...added, priority: 3 }],
      ['bob', 'rule.added', 'more', null, added],
      ['ann', 'rules.declared', 'rules', { rules: [], prices: {}, exempt: {} }, { rules: [], prices, exempt }],
      ['deploy', 'settings.changed', 'settings', {}, { auditRetentionMs: 10 * DAY }],
      ['deploy', 'rules.declared', 'rules', { rules: [] }, { rules: [RULE] }],
    ])
    expect(new Set(audit.slice(0, 10).map((entry) => entry.at))).toEqual(new Set([at]))
  })

  test('a call that changes nothing is not in the audit', async () => {
    const tollgate = await newPlace(place).open({ rules: [RULE] })
    await tollgate.rules.apply([RULE])
    await tollgate.rules.remove('none')
    await tollgate.resume({ agent: 'llm' })
    await tollgate.overrides.revoke('none')
    expect((await tollgate.overrides.audit()).map(({ what }) => what)).toEqual(['rules.declared'])
  })

  test('the audit can be queried by time, actor and kind, with a limit', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open()
    for (let day = 0; day < 10; day++) {
      await tollgate.pause({ user: `u${day}` }, { by: day % 2 ? 'odd' : 'even' })
      clock.advance(DAY)
    }
    await tollgate.resume({ user: 'u3' }, { by: 'odd' })
    const subjects = async (query: AuditQuery) => (await tollgate.overrides.audit(query)).map(({ subject }) => subject)
    expect(await subjects({ limit: 3 })).toEqual(['user u3', 'user u9', 'user u8'])
    expect(await subjects({ by: 'odd', what: 'calls.paused', limit: 2 })).toEqual(['user u9', 'user u7'])
    expect(await subjects({ since: new Date(T0 + 3 * DAY), until: new Date(T0 + 5 * DAY).toISOString() })).toEqual(['user u5', 'user u4', 'user u3'])
    expect(await subjects({ since: new Date(T0 + 3 * DAY + 1), until: new Date(T0 + 5 * DAY - 1) })).toEqual(['user u4'])
  })

  test('entries older than the retention are not returned any more', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open({ auditRetentionMs: 5 * DAY })
    await tollgate.pause({ user: 'a' })
    clock.advance(3 * DAY)
    await tollgate.pause({ user: 'b' })
    clock.advance(2 * DAY + 1)
    await tollgate.pause({ user: 'c' })
    expect((await tollgate.overrides.audit()).map(({ subject }) => subject)).toEqual(['user c', 'user b'])
  })

  test.each<[string, object, RegExp]>([
    ['a text that is no time', { since: 'yesterday' }, /^since: must be a date, or a time in ISO 8601 .* \(got "yesterday"\)$/],
    ['a day that is not there', { until: '2026-13-40' }, /^until: must be a date/],
    ['an unknown kind', { what: 'everything' }, /^what: .* \(got "everything"\)$/],
    ['a limit of 0', { limit: 0 }, /^limit: .* \(got 0\)$/],
    ['a limit too large', { limit: 10_001 }, /^limit: .*10000 \(got 10001\)$/],
    ['an empty actor', { by: '' }, /^by: .* \(got ""\)$/],
    ['an unknown field', { who: 'x' }, /^who: is not a known field \(got "x"\)$/],
  ])('a query with %s is refused, naming field, value and bound', async (_what, query, message) => {
    const tollgate = await newPlace(place).open()
    await expect(tollgate.overrides.audit(query)).rejects.toThrow(expect.objectContaining({ code: 'REQUEST_INVALID', message: expect.stringMatching(message) }))
  })
})

test('every process of a namespace keeps the audit for the configured time, and removes older entries', async () => {
  const namespace = newNamespace()
  await namespace.open({ auditRetentionMs: 3_600_000 })
  const other = await namespace.open()
  for (let i = 0; i < 300; i++) await other.limiter({ requests: 1, per: 'day' }).reset(`k${i}`)
  const ttl = await namespace.redis.pttl(namespace.keys.audit)
  expect(ttl).toBeGreaterThan(0)
  expect(ttl).toBeLessThanOrEqual(3_600_000)
  const [seconds] = await namespace.redis.time()
  // As if two hours had gone by.
  const old = (await namespace.redis.xrange(namespace.keys.audit, '-', '+')).map(([, fields]) => fields)
  await namespace.redis.del(namespace.keys.audit)
  for (const [index, fields] of old.entries()) await namespace.redis.xadd(namespace.keys.audit, `${(Number(seconds) - 7200) * 1000}-${index}`, ...fields)
  await other.pause({ agent: 'llm' })
  expect((await other.overrides.audit()).map(({ what }) => what)).toEqual(['calls.paused'])
  expect(await namespace.redis.xlen(namespace.keys.audit)).toBeLessThanOrEqual(101)
  await other.resume({ agent: 'llm' })
})

test('the audit goes on after a clock was set back', async () => {
  const namespace = newNamespace()
  const clock = new GivenClock(T0)
  const tollgate = await namespace.open({ clock })
  await tollgate.pause({ user: 'a' })
  clock.advance(-DAY)
  await tollgate.pause({ user: 'b' })
  expect((await tollgate.overrides.audit()).map(({ subject }) => subject)).toEqual(['user b', 'user a'])
})
