import { describe, expect, test } from 'vitest'
import { GivenClock, type RuleSpec } from '../../src/index.js'
import { parseRules } from '../../src/policy/rules-file.js'
import { plainAddress } from '../../src/validation/address.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf, newPlace, PLACES } from '../support/place.js'

const HOURLY = (requests: number) => [{ requests, per: 'hour' as const }]

describe.each(PLACES)('in %s', (place) => {
  test('a rule covers calls by their keys', async () => {
    const tollgate = await newPlace(place).open({
      rules: [{ name: 'trial', scope: 'user', match: { keys: { plan: ['free', 'trial-*'] } }, strategy: 'hard', limits: HOURLY(1) }],
    })
    const covered = async (keys?: Record<string, string>) => (await tollgate.gate.peek({ agent: 'a', user: 'u', keys })).usage.length
    expect([await covered({ plan: 'free' }), await covered({ plan: 'trial-7' }), await covered({ plan: 'paid' })]).toEqual([1, 1, 0])
    expect([await covered(), await covered({ tier: 'free' }), await covered({ plan: 'freed' })]).toEqual([0, 0, 0])
  })

  test('a call without a field that a rule requires is refused and not charged, unless the match leaves it out', async () => {
    const tollgate = await newPlace(place).open({
      rules: [
        { name: 'all', scope: 'agent', limits: HOURLY(10) },
        { name: 'acme', scope: 'user', match: { orgs: ['acme'] }, requires: ['user', 'keys.plan'], limits: HOURLY(5) },
        { name: 'off', scope: 'ip', requires: ['ip'], enabled: false, limits: HOURLY(5) },
      ],
    })
    for (const verb of ['admit', 'peek', 'acquire', 'record', 'tryAcquire'] as const) {
      expect(await codeOf(tollgate.gate[verb]({ agent: 'a', org: 'acme' }))).toBe('CALL_INCOMPLETE')
      await expect(tollgate.gate[verb]({ agent: 'a', org: 'acme', user: 'u' })).rejects.toThrow('keys.plan: is required by rule acme (got undefined)')
    }
    expect((await tollgate.gate.peek({ agent: 'a' })).usage.map(({ used }) => used)).toEqual([0])
    expect((await tollgate.gate.admit({ agent: 'a', org: 'acme', user: 'u', keys: { plan: 'x' } })).allowed).toBe(true)
    expect((await tollgate.gate.admit({ agent: 'a', org: 'other' })).allowed).toBe(true)
  })

  test('IPv6 addresses are counted by their network, IPv4 ones by themselves in every spelling', async () => {
    const rules = (ipv6Prefix?: number): RuleSpec[] => [{ name: 'ip', scope: 'ip', ipv6Prefix, strategy: 'hard', limits: HOURLY(3) }]
    const tollgate = await newPlace(place).open({ rules: rules() })
    const letIn = async (...ips: string[]) => {
      let count = 0
      for (const ip of ips) if ((await tollgate.gate.admit({ agent: 'a', ip })).allowed) count++
      return count
    }
    expect(await letIn(...Array.from({ length: 20 }, (_, n) => `2001:db8:1:2::${(n + 1).toString(16)}`))).toBe(3)
    expect(await letIn('2001:DB8:9::1', '2001:0db8:0009:0000:0000:0000:0000:0001', '2001:db8:9:0::1', '2001:db8:9:0:0:0:0:1')).toBe(3)
    expect(await letIn('198.51.100.7', '::ffff:198.51.100.7', '::FFFF:c633:6407', '0:0:0:0:0:ffff:c633:6407')).toBe(3)
    expect(await letIn('198.51.100.8')).toBe(1)
    expect(await letIn('fe80::2%eth0', 'fe80::2%eth1', 'fe80::2', 'fe80::3%1')).toBe(3)
    await tollgate.rules.apply(rules(48))
    expect(await letIn('2001:db8:5:1::1', '2001:db8:5:2::1', '2001:db8:5:3::1', '2001:db8:5:4::1')).toBe(3)
    await tollgate.rules.apply(rules(128))
    expect(await letIn('2001:db8:6::1', '2001:db8:6::2', '2001:db8:6::3', '2001:db8:6::4')).toBe(4)
  })

  test('an override or a permanent list for an address is for that address, and not for the rest of its network', async () => {
    const tollgate = await newPlace(place).open({
      rules: [{ name: 'ip', scope: 'ip', strategy: 'hard', limits: HOURLY(1) }],
      exempt: { ips: ['2001:db8:a::/48', '::ffff:203.0.113.0/120', '2001:db8:d::1'] },
      actor: 'test',
    })
    const allowed = async (ip: string) => [(await tollgate.gate.admit({ agent: 'a', ip })).allowed, (await tollgate.gate.admit({ agent: 'a', ip })).allowed]
    expect([await allowed('2001:db8:a:7::1'), await allowed('203.0.113.9'), await allowed('2001:db8:b::1')]).toEqual([
      [true, true],
      [true, true],
      [true, false],
    ])
    await tollgate.overrides.grant({ for: { ip: '2001:db8:b::77' }, allow: 'unlimited', reason: 'testing', forMs: 60_000 })
    expect([await allowed('2001:db8:b::1'), await allowed('2001:db8:b::77'), await allowed('2001:db8:b:1::1')]).toEqual([
      [false, false],
      [true, true],
      [true, false],
    ])
    expect([await allowed('2001:db8:d::2'), await allowed('2001:db8:d::3'), await allowed('2001:db8:d::1')]).toEqual([
      [true, false],
      [false, false],
      [true, true],
    ])
  })

  test('input that a provider has in its cache is given back to a limit of uncached input', async () => {
    const tollgate = await newPlace(place).open({ rules: [{ name: 'itpm', scope: 'agent', limits: [{ uncachedInputTokens: 50_000, per: 'minute' }] }] })
    const call = { agent: 'claude', cost: { inputTokens: 46_000 } }
    const used = async () => (await tollgate.gate.peek({ agent: 'claude', cost: { inputTokens: 0 } })).usage[0]?.used ?? -1
    for (let n = 1; n <= 5; n++) {
      const grant = await tollgate.gate.admit(call)
      expect(grant.allowed).toBe(true)
      await grant.settle({ inputTokens: 45_500, cachedInputTokens: 45_000, outputTokens: 10 })
      expect(await used()).toBeLessThanOrEqual(500 * n)
    }
    expect((await tollgate.gate.peek({ agent: 'claude', cost: { inputTokens: 1, uncachedInputTokens: 50_001 } })).allowed).toBe(false)
  })

  test('windows begin at their anchors, and calls above the limit may start with the next one', async () => {
    const clock = new GivenClock(Date.parse('2026-03-28T12:00:00Z'))
    const limit = { requests: 2, algorithm: 'fixed_window', timezone: 'Europe/Berlin', hour: 2 } as const
    const tollgate = await newPlace(place, clock).open({
      rules: [
        { name: 'daily', scope: 'global', match: { agents: ['a'] }, strategy: 'hard', limits: [{ ...limit, per: 'day' }] },
        { name: 'quarter', scope: 'global', match: { agents: ['b'] }, strategy: 'hard', limits: [{ ...limit, per: 'quarter', day: 15 }] },
        { name: 'weekly', scope: 'global', match: { agents: ['c'] }, strategy: 'hard', limits: [{ ...limit, per: 'week', startsOn: 'sunday' }] },
      ],
    })
    const retryAt = async (agent: string) => {
      for (;;) {
        const { allowed, retryAfterMs } = await tollgate.gate.admit({ agent })
        if (!allowed) return new Date(clock.nowMs + (retryAfterMs ?? Number.NaN)).toISOString()
      }
    }
    // The clocks skip 02:00 on the 29th, a Sunday: they show 03:00 at 01:00 UTC.
    expect([await retryAt('a'), await retryAt('b'), await retryAt('c')]).toEqual([
      '2026-03-29T01:00:00.001Z',
      '2026-04-15T00:00:00.001Z',
      '2026-03-29T01:00:00.001Z',
    ])
    clock.nowMs = Date.parse('2026-03-29T01:00:01Z')
    expect([await retryAt('a'), await retryAt('b'), await retryAt('c')]).toEqual([
      '2026-03-30T00:00:00.001Z',
      '2026-04-15T00:00:00.001Z',
      '2026-04-05T00:00:00.001Z',
    ])
  })
})

test('a call without a required field is refused at the queue and in the worker, wherever its job comes from', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'user', scope: 'user', requires: ['user'], limits: HOURLY(5) }] })
  const worker = tollgate.worker(async () => 'done')
  expect(await codeOf(tollgate.enqueue({ agent: 'a' }))).toBe('CALL_INCOMPLETE')
  const [refused, accepted] = await tollgate.enqueueMany([{ agent: 'a' }, { agent: 'a', user: 'u' }])
  expect([refused?.error?.code, await accepted?.result()]).toEqual(['CALL_INCOMPLETE', 'done'])
  expect(await codeOf(tollgate.hold().run({ agent: 'a' }, async () => 'done'))).toBe('CALL_INCOMPLETE')
  const { Queue } = await import('bullmq')
  const queue = new Queue(tollgate.queue, { connection: { url: namespace.url }, prefix: tollgate.prefix })
  const job = await queue.add('a', { some: 'payload' })
  expect(await codeOf(tollgate.result(job.id as string))).toBe('CALL_INCOMPLETE')
  await queue.close()
  await worker.close()
})

test('the defaults of a file fill in what its rules leave out, and nothing that they say', () => {
  const { rules } = parseRules(
    `
defaults: { algorithm: sliding_window, strategy: retry_after, burstMultiplier: 2 }
rules:
  - { name: plain, scope: user, limits: [{ requests: 1, per: minute }, { concurrency: 2 }] }
  - name: own
    scope: user
    strategy: graceful
    degraded: [{ requests: 5, per: minute }]
    limits: [{ requests: 1, per: minute, burst: 3 }, { tokens: 1, per: minute, algorithm: token_bucket }]
`,
    'rules.yaml',
  )
  expect(rules).toEqual([
    { name: 'plain', scope: 'user', strategy: 'retry_after', limits: [{ requests: 1, per: 'minute', algorithm: 'sliding_window' }, { concurrency: 2 }] },
    {
      ...{ name: 'own', scope: 'user', strategy: 'graceful', degraded: [{ requests: 5, per: 'minute', algorithm: 'sliding_window' }] },
      limits: [
        { requests: 1, per: 'minute', burst: 3 },
        { tokens: 1, per: 'minute', algorithm: 'token_bucket', burstMultiplier: 2 },
      ],
    },
  ])
})

test.each([
  ['::', '::'],
  ['0:0:0:0:0:0:0:1', '::1'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['1:0:0:0:0:0:0:0', '1::'],
  ['::FFFF:1.2.3.4', '1.2.3.4'],
  ['fe80::1%eth0', 'fe80::1'],
  ['64:ff9b::192.0.2.1', '64:ff9b::c000:201'],
  ['10.0.0.1', '10.0.0.1'],
])('the address %s is %s', (given, expected) => {
  expect(plainAddress(given)).toBe(expected)
})

test('a waiting call is found by its address when an override of its network is granted', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'ip', scope: 'ip', limits: HOURLY(1) }], actor: 'test' })
  tollgate.worker(async () => 'done')
  const call = { agent: 'a', ip: '2001:db8::1' }
  const tickets = await tollgate.enqueueMany([call, { ...call, ip: '2001:db8::2' }])
  expect(tickets.map(({ decision }) => decision?.outcome)).toEqual(['run', 'wait'])
  await tollgate.overrides.grant({ for: { ip: '2001:db8::/32' }, allow: 'unlimited', reason: 'testing', forMs: 60_000 })
  expect(await tickets[1]?.result()).toBe('done')
})
