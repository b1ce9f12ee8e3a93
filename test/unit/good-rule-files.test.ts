import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Call } from '../../src/model/call.js'
import { compileRules } from '../../src/policy/compile.js'
import type { CompiledRule } from '../../src/policy/compiled-rule.js'
import { type RulesFile, readRules } from '../../src/policy/rules-file.js'

const FOLDER = fileURLToPath(new URL('../fixtures/rules/good/', import.meta.url))
const SECOND = 1000
const DAY = 86_400 * SECOND

async function compiled(name: string): Promise<{ file: RulesFile; rules: readonly CompiledRule[]; byName(rule: string): CompiledRule }> {
  const file = await readRules(`${FOLDER}${name}.yaml`)
  const { rules } = compileRules(file.rules)
  const byName = (rule: string) => {
    const found = rules.find((one) => one.name === rule)
    if (found === undefined) throw new Error(`no rule ${rule} in ${name}.yaml`)
    return found
  }
  return { file, rules, byName }
}

test.each(readdirSync(FOLDER))('the rules file %s is accepted and compiles to the same version each time', async (name) => {
  const first = await readRules(FOLDER + name)
  const second = await readRules(FOLDER + name)
  expect(compileRules(first.rules).version).toBe(compileRules(second.rules).version)
  expect(compileRules(JSON.parse(JSON.stringify(first.rules))).version).toBe(compileRules(first.rules).version)
})

test('every period has its length, and a bucket refills its limit in it', async () => {
  const { rules } = await compiled('periods')
  const windows = { second: SECOND, minute: 60 * SECOND, hour: 3600 * SECOND, day: DAY, week: 7 * DAY, month: 30 * DAY }
  expect(Object.fromEntries(rules.map((rule) => [rule.name, rule.limits[0]?.windowMs]))).toEqual(windows)
  for (const rule of rules) {
    const [limit] = rule.limits
    expect((limit?.rate ?? 0) * (limit?.windowMs ?? 0)).toBeCloseTo(600, 9)
    expect(limit).toMatchObject({ algorithm: 'token_bucket', capacity: 600, limit: 600, unit: 'requests', name: `requests/${rule.name}` })
  }
})

test('durations are read with their fractions', async () => {
  const { rules } = await compiled('durations')
  expect(rules.map((rule) => rule.limits[0]?.windowMs)).toEqual([1, 250, 10_000, 1500, 900_000, 21_600_000, 366 * DAY, 364 * DAY])
})

test('a limit of 0 holds nothing, whatever its burst', async () => {
  const { byName } = await compiled('closed')
  expect(byName('closed').limits.map(({ name, capacity }) => [name, capacity])).toEqual([
    ['requests/minute', 0],
    ['tokens/hour', 0],
    ['concurrency', 0],
  ])
  expect(byName('closed').keyed.map(({ unit }) => unit)).toEqual(['concurrency'])
})

test('amounts, bursts and algorithms are taken exactly as written', async () => {
  const { byName } = await compiled('amounts')
  const [half, trillion, burst, weekly, fixed, small, slots] = byName('amounts').limits
  expect(half).toMatchObject({ capacity: 1, limit: 0.5, rate: 0.0005 })
  expect(trillion).toMatchObject({ capacity: 1e12, rate: 1e12 / DAY })
  expect(burst).toMatchObject({ capacity: 150, limit: 100, rate: 100 / 60_000 })
  expect(weekly).toMatchObject({ algorithm: 'fixed_window', capacity: 7, windowMs: 7 * DAY, offsetMs: 4 * DAY })
  expect(new Date((weekly?.offsetMs ?? 0) + 2800 * 7 * DAY).getUTCDay(), 'weeks begin on Monday').toBe(1)
  expect(fixed).toMatchObject({ algorithm: 'fixed_window', capacity: 3, windowMs: 10_000, offsetMs: 0 })
  expect(small).toMatchObject({ name: 'small', unit: 'tokens', capacity: 1e12, rate: 0.001 })
  expect(slots).toMatchObject({ algorithm: 'concurrency', unit: 'concurrency', capacity: 4, windowMs: 0 })
})

test('each scope counts by its own field, a list by all of its fields, a custom one by the key', async () => {
  const { rules } = await compiled('scopes')
  const call: Call = { agent: 'A', endpoint: '/e', model: 'M', user: 'U', team: 'T', org: 'O', ip: '10.0.0.1', keys: { region: 'eu', constructor: 'c' } }
  expect(Object.fromEntries(rules.map((rule) => [rule.name, rule.scopeValue(call)]))).toEqual({
    'by-global': '*',
    'by-agent': 'A',
    'by-endpoint': '/e',
    'by-model': 'M',
    'by-user': 'U',
    'by-team': 'T',
    'by-org': 'O',
    'by-ip': '10.0.0.1',
    'by-region': 'eu',
    'by-user-and-agent': 'U|A',
    'by-org-and-region': 'O|eu|c',
  })
})

test('a call without the field that a rule counts by is not covered by it', async () => {
  const { rules } = await compiled('scopes')
  expect(rules.filter((rule) => rule.scopeValue({ agent: 'A', org: 'O', keys: { region: 'eu' } }) !== null).map(({ name }) => name)).toEqual([
    'by-global',
    'by-agent',
    'by-org',
    'by-region',
  ])
})

test('globs and ranges of a file decide what its rules cover', async () => {
  const { byName } = await compiled('matches')
  const covers = (rule: string, call: Call) => byName(rule).scopeValue(call) !== null
  expect(covers('globs', { agent: 'openai', model: 'gpt-4o', user: 'u' })).toBe(true)
  expect(covers('globs', { agent: 'anthropic-eu', model: 'x-mini', user: 'u' })).toBe(true)
  expect(covers('globs', { agent: 'openai', model: 'gpt-4', user: 'u' })).toBe(false)
  expect(covers('globs', { agent: 'anthropic', model: 'gpt-4o', user: 'u' })).toBe(false)
  expect(covers('globs', { agent: 'openai', user: 'u' })).toBe(false)
  expect(covers('ranges', { agent: 'a', ip: '10.200.3.4' })).toBe(true)
  expect(covers('ranges', { agent: 'a', ip: '2001:db8:1::1' })).toBe(true)
  expect(covers('ranges', { agent: 'a', ip: '192.168.1.8' })).toBe(false)
  expect(covers('ranges', { agent: 'a' })).toBe(false)
  expect(covers('everything', { agent: 'a', user: 'u', team: 't', org: 'o', endpoint: '/v1/x' })).toBe(true)
  expect(covers('everything', { agent: 'a', user: 'u', team: 't', endpoint: '/v1/x' })).toBe(false)
})

test('a disabled rule is kept in the file and not compiled; aliases and agents are read', async () => {
  const { file, rules } = await compiled('whole')
  expect(file.rules.map(({ name }) => name)).toEqual(['first', 'off', 'last.of-them_all'])
  expect(rules.map(({ name, priority, strategy }) => [name, priority, strategy])).toEqual([
    ['first', -7, 'hard'],
    ['last.of-them_all', 1_000_000, 'queue'],
  ])
  expect(rules[1]?.limits).toEqual(rules[0]?.limits)
  expect(Object.keys(file.agents)).toEqual(['openai', 'claude', 'local', 'constructor'])
  expect(file.agents['claude']).toEqual({ baseUrl: 'https://api.anthropic.com/', apiKeyEnv: 'ANTHROPIC_API_KEY', api: 'anthropic' })
})

test('the permanent lists of a file are read as written', async () => {
  const { file } = await compiled('exempt')
  expect(file.exempt).toEqual({ users: ['root', 'admin-*'], teams: ['sre'], orgs: ['acme'], agents: ['internal'], ips: ['10.0.0.0/8', '2001:db8::1'] })
})

test('prices of a file are read as written, by name and by glob', async () => {
  const { file } = await compiled('prices')
  expect(file.prices).toEqual({
    'gpt-4o': { input: 2.5, cachedInput: 1.25, output: 10 },
    'claude-*': { input: 3, cachedInput: 0.3, cacheWrite: 3.75, output: 15 },
    'text-embedding-3-?????': { input: 0.02, output: 0 },
    constructor: { input: 0, cachedInput: 0, cacheWrite: 0, output: 1_000_000 },
    '*': { input: 5, output: 20 },
  })
})

test('a file without rules limits nothing', async () => {
  const { rules, file } = await compiled('none')
  expect(rules).toEqual([])
  expect(file).toEqual({ rules: [], agents: {}, prices: {}, exempt: {}, degradeTo: {}, endpoints: {}, alerts: { list: [], webhooks: {} } })
})

test('every algorithm can be named, and its limit has its numbers', async () => {
  const { byName } = await compiled('algorithms')
  const { limits, keyed } = byName('algorithms')
  const MINUTE = 60 * SECOND
  expect(limits.map(({ name, algorithm, capacity, rate, windowMs, leaseMs }) => [name, algorithm, capacity, rate || leaseMs || windowMs])).toEqual([
    ['bucket', 'token_bucket', 3, 10 / MINUTE],
    ['even', 'leaky_bucket', 10, 10 / MINUTE],
    // A call costs a whole request, which must fit, however low the rate is.
    ['slow', 'leaky_bucket', 1, 0.5 / (60 * MINUTE)],
    ['window', 'fixed_window', 10, MINUTE],
    ['sliding', 'sliding_window', 10, MINUTE],
    ['log', 'sliding_log', 10, MINUTE],
    ['slots', 'concurrency', 10, 30 * SECOND],
  ])
  expect(keyed.map(({ name }) => name)).toEqual(['log', 'slots'])
})

test('every unit can be counted, fractions and all', async () => {
  const { byName } = await compiled('units')
  expect(byName('units').limits.map(({ unit, limit }) => [unit, limit])).toEqual([
    ['requests', 10],
    ['tokens', 1000],
    ['inputTokens', 800],
    ['outputTokens', 200.5],
    ['usd', 0.25],
    ['points', 1],
    ['uncachedInputTokens', 700],
    ['concurrency', 2],
  ])
})

test('windows of a time zone and months follow the calendar, a day in UTC has its fixed length', async () => {
  const { byName } = await compiled('calendar')
  const borders = byName('calendar').limits.map((limit) => limit.borders?.(Date.UTC(2026, 2, 29, 12)))
  const around = (known: readonly number[] | undefined) => known?.map((at) => new Date(at).toISOString())
  // Summer time begins: this day has 23 hours.
  expect(around(borders[0])).toContain('2026-03-28T23:00:00.000Z')
  expect(around(borders[0])).toContain('2026-03-29T22:00:00.000Z')
  expect(around(borders[1])).toContain('2026-03-23T04:00:00.000Z')
  expect(around(borders[2])).toEqual(expect.arrayContaining(['2026-03-01T00:00:00.000Z', '2026-04-01T00:00:00.000Z', '2026-05-01T00:00:00.000Z']))
  expect(around(borders[3])).toContain('2026-03-31T18:15:00.000Z')
  expect(borders[4]).toBeUndefined()
})

test('a rule that throttles has a pace beside its window, other rules have none; degraded calls have limits of their own', async () => {
  const { byName } = await compiled('strategies')
  expect(byName('throttle').limits).toMatchObject([
    { name: 'requests/minute', algorithm: 'sliding_window', capacity: 60 },
    { name: 'requests/minute pace', algorithm: 'leaky_bucket', unit: 'requests', rate: 0.001 },
  ])
  expect(byName('queue').limits).toHaveLength(1)
  const { degraded } = byName('graceful')
  expect(degraded).toMatchObject({
    name: 'graceful~degraded',
    strategy: 'retry_after',
    limits: [{ name: 'requests/minute' }, { name: 'usd/day', unit: 'usd' }],
  })
  expect(degraded?.scopeValue({ agent: 'a', user: 'u' })).toBe('u')
  expect(byName('hard').degraded).toBeNull()
})
