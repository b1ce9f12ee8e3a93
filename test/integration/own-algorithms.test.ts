import { describe, expect, onTestFinished, test } from 'vitest'
import { Resolver } from '../../src/admission/resolver.js'
import { GivenClock, type RuleAlgorithm, type RuleSpec, type TollgateOptions } from '../../src/index.js'
import { compileRules } from '../../src/policy/compile.js'
import { checkRules } from '../../src/policy/rules-file.js'
import { ScriptClient } from '../../src/store/redis/script-client.js'
import { TEST_ALGORITHMS as algorithms, sessionWindow } from '../../testing/session-window.js'
import { newNamespace } from '../support/namespace.js'
import { ownRedis, untilAway, untilBack } from '../support/outage.js'
import { codeOf, newPlace, PLACES, usedBy } from '../support/place.js'
import { requestOf, T0 } from '../support/script-client.js'
import { until } from '../support/until.js'

const CALL = { agent: 'llm', org: 'acme' }
/** A rule with one limit of so many requests per time, counted in windows that begin with their first call. */
function session(requests: number, per: string, more: Partial<RuleSpec> = {}): RuleSpec {
  return { name: 'own', scope: 'org', limits: [{ requests, per, algorithm: 'custom:session' }], ...more }
}
/** The session window with other functions. */
function changed(more: Partial<RuleAlgorithm>): RuleAlgorithm {
  return { ...sessionWindow, ...more }
}
/** What opening says of an algorithm. */
async function fault(algorithm: unknown, options: TollgateOptions = {}): Promise<string> {
  return newNamespace()
    .open({ algorithms: { mine: algorithm as RuleAlgorithm }, ...options })
    .then(
      () => 'none',
      (error: Error) => `${(error as { code?: string }).code}: ${error.message}`,
    )
}

describe.each(PLACES)('in %s', (place) => {
  test('the gate counts by it: charges, waits, settles, gives back, resets', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open({ algorithms, rules: [session(3, 'minute', { strategy: 'retry_after' })] })
    const used = () => usedBy(tollgate, CALL)
    clock.advance(7000)
    const first = await tollgate.gate.admit(CALL)
    clock.advance(20_000)
    for (let n = 0; n < 2; n++) expect((await tollgate.gate.admit(CALL)).allowed).toBe(true)
    const refused = await tollgate.gate.admit(CALL)
    expect([refused.allowed, refused.limitExceeded]).toEqual([false, 'own/requests/minute'])
    expect(refused.retryAfterMs).toBe(40_001)
    expect(await first.release()).toBe(true)
    expect(await used()).toBe(2)
    await tollgate.gate.record({ ...CALL, cost: { requests: 4 } })
    expect(await used()).toBe(6)
    clock.advance(40_001)
    expect(await used()).toBe(3)
    await tollgate.meters.reset({ rule: 'own', value: ['acme'] })
    expect(await used()).toBe(0)
  })

  test('a limiter by key counts by it, beside other limits', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open({ algorithms })
    const limiter = tollgate.limiter([
      { requests: 2, per: '10s', algorithm: 'custom:session' },
      { requests: 3, per: 'hour' },
    ])
    const allowed = async () => (await limiter.check('k')).allowed
    expect([await allowed(), await allowed(), await allowed()]).toEqual([true, true, false])
    clock.advance(10_001)
    expect([await allowed(), await allowed()]).toEqual([true, false])
    expect(() => tollgate.limiter({ requests: 2, per: '10s', algorithm: 'custom:other' })).toThrow(
      /limiter\.algorithm must be one of token_bucket, .* registered are custom:session \(got "custom:other"\)/,
    )
  })

  test('of many calls at once exactly as many pass as there is room for', async () => {
    const tollgate = await newPlace(place).open({
      algorithms,
      rules: [session(50, 'hour', { strategy: 'hard' }), { name: 'all', scope: 'global', limits: [{ requests: 1000, per: 'hour' }] }],
    })
    const grants = await Promise.all(Array.from({ length: 120 }, () => tollgate.gate.admit(CALL)))
    expect(grants.filter(({ allowed }) => allowed)).toHaveLength(50)
    expect(await usedBy(tollgate, CALL, 'requests/hour')).toBe(50)
  })

  test('an override scales its limit, and lifts it', async () => {
    const tollgate = await newPlace(place).open({ algorithms, rules: [session(2, 'hour', { strategy: 'hard' })] })
    const grant = { for: { org: 'acme' }, reason: 'incident', by: 'ops', forMs: 60_000 } as const
    const pass = async () => (await tollgate.gate.admit(CALL)).allowed
    expect([await pass(), await pass(), await pass()]).toEqual([true, true, false])
    const id = await tollgate.overrides.grant({ ...grant, allow: { times: 2 } })
    expect([await pass(), await pass(), await pass()]).toEqual([true, true, false])
    await tollgate.overrides.revoke(id, { by: 'ops' })
    await tollgate.overrides.grant({ ...grant, allow: 'unlimited' })
    expect(await pass()).toBe(true)
  })
})

test('calls wait in line for it, are told when they start, and are settled', async () => {
  const tollgate = await newNamespace().open({ algorithms, rules: [session(2, '700ms')] })
  const started: string[] = []
  tollgate.worker(async (call) => {
    started.push(String(call.payload))
    return { usage: { requests: 1 } }
  })
  const tickets = await tollgate.enqueueMany(Array.from({ length: 6 }, (_, n) => ({ ...CALL, id: `c${n}`, payload: n })))
  const waiting = tickets.flatMap(({ decision }) => (decision?.outcome === 'wait' ? [decision] : []))
  expect(waiting).toHaveLength(4)
  for (const { etaMs, binding } of waiting) {
    expect(binding).toMatchObject({ rule: 'own', limit: 'requests/700ms' })
    expect(etaMs).toBeGreaterThan(0)
    expect(etaMs).toBeLessThan(1500)
  }
  const explained = await tollgate.explain('c5')
  if (explained?.state === 'waiting') expect(explained).toMatchObject({ waitsFor: 'RATE' })
  await Promise.all(tickets.map((ticket) => ticket.result()))
  // The two of one window start together.
  expect([0, 2, 4].map((n) => started.slice(n, n + 2).sort())).toEqual([
    ['0', '1'],
    ['2', '3'],
    ['4', '5'],
  ])
})

test('a process that was not given it decides by it all the same, and so does one with a newer text', async () => {
  const namespace = newNamespace()
  const rules = [session(2, 'hour', { strategy: 'hard' })]
  const first = await namespace.open({ algorithms, rules })
  const other = await namespace.open()
  const passes = async (tollgate: typeof first) => (await tollgate.gate.admit(CALL)).allowed
  expect([await passes(first), await passes(other), await passes(first), await passes(other)]).toEqual([true, true, false, false])
  await other.rules.add(session(5, 'hour', { name: 'added', scope: 'agent' }))
  // A newer text begins anew, everywhere: its states may have another form.
  const newer = await namespace.open({ algorithms: { session: changed({ lua: `${sessionWindow.lua} -- 2` }) } })
  expect(await passes(newer)).toBe(true)
  await until('the first decides by it, too', () => passes(first))
  expect(await passes(newer)).toBe(false)
  expect(await first.overrides.audit({ what: 'algorithms.declared' })).toHaveLength(2)
})

test('a rule that names none that is registered is refused, with those that are', async () => {
  const namespace = newNamespace()
  const open = (options: TollgateOptions) => codeOf(namespace.open(options))
  expect(await open({ rules: [session(1, 'hour')] })).toBe('RULES_INVALID')
  const tollgate = await namespace.open({ algorithms })
  const other: RuleSpec = { name: 'r', scope: 'org', limits: [{ requests: 1, per: 'hour', algorithm: 'custom:other' }] }
  await expect(tollgate.rules.add(other)).rejects.toThrow(
    'rule r: algorithm must be one of token_bucket, leaky_bucket, fixed_window, sliding_window, sliding_log, or one that Tollgate.open({ algorithms }) registers; registered are custom:session (got "custom:other")',
  )
  await expect(tollgate.rules.add({ ...other, limits: [{ requests: 1, per: 'hour', algorithm: 'custom:' }] })).rejects.toThrow(
    /limits\.0\.algorithm must be .* or custom:<name> \(got "custom:"\)/,
  )
  expect(tollgate.rules.list()).toEqual([])
})

describe('at open', () => {
  test.each<[string, unknown, RegExp]>([
    ['that is none', 7, /algorithms\.mine: must be an algorithm: an object with lua, used, waitMs, charge and resetMs \(got 7\)/],
    ['without a function', { ...sessionWindow, waitMs: undefined }, /algorithms\.mine\.waitMs must be a function \(got undefined\)/],
    ['without Lua', { ...sessionWindow, lua: '' }, /algorithms\.mine\.lua must be the text of a Lua module, of 1 to 8192 characters/],
    [
      'whose wait never ends',
      changed({ waitMs: () => 5 }),
      /algorithms\.mine\.waitMs must be 0 when the wait that it has told is over; it told 5 ms \(got 5, tried with 10 per 60000 ms\)/,
    ],
    ['that answers no number', changed({ used: () => Number.NaN }), /algorithms\.mine\.used fails: it must answer a number from 0 on \(got NaN\)/],
    ['whose usage outlives its reset', changed({ resetMs: () => 0 }), /algorithms\.mine\.used must be 0 when the time of resetMs is over, 0 ms/],
    [
      'that keeps a text',
      changed({ charge: (_, state) => void state.push('x' as unknown as number) }),
      /algorithms\.mine\.charge fails: it must leave a list of at most 32 numbers/,
    ],
    [
      'whose question changes the state',
      changed({ resetMs: (_, state) => (state as number[]).push(1) }),
      /algorithms\.mine\.resetMs must not change the state/,
    ],
    ['whose Lua is none', changed({ lua: 'return {' }), /algorithms\.mine\.lua fails: lua:1: /],
    ['whose Lua lacks a function', changed({ lua: 'return { used = function() return 0 end }' }), /lua must return a table with the function waitMs/],
    [
      'whose Lua reaches for Redis',
      changed({ lua: `local x = redis.call('GET', 'x')\n${sessionWindow.lua}` }),
      /algorithms\.mine\.lua fails: lua:1: attempt to index local 'redis'/,
    ],
    ['whose Lua loads another', changed({ lua: `local f = loadstring('return redis')\n${sessionWindow.lua}` }), /attempt to call local 'loadstring'/],
    [
      'whose Lua answers otherwise',
      changed({ lua: sessionWindow.lua.replace('1e-9', '1') }),
      /algorithms\.mine\.lua must answer as its twin does: waitMs with .* \(got 0, its twin /,
    ],
  ])('one %s is refused, naming field, value and bound', async (_name, algorithm, message) => {
    expect(await fault(algorithm)).toMatch(message)
    expect(await fault(algorithm)).toMatch(/^CONFIG_INVALID: /)
  })

  test('a namespace knows a bounded number', async () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`a${n}`, sessionWindow]))
    expect(await codeOf(newNamespace().open({ algorithms: many }))).toBe('RULES_INVALID')
  })
})

test('one that fails in Redis has no room for a moment, and hurts no other call of its batch', async () => {
  const namespace = newNamespace()
  const rules = checkRules([
    session(5, 'hour', { match: { agents: ['llm'] } }),
    { name: 'plain', scope: 'org', limits: [{ requests: 100, per: 'hour' }] },
  ]).rules
  const { lua } = sessionWindow
  for (const text of ['return 1', 'error("broken")', lua.replace('over <= 1e-9', 'nothing <= 1'), lua.replace('return 0 end', 'return 0/0 end')]) {
    const resolver = new Resolver(compileRules(rules, { session: changed({ lua: text }) }), namespace.keys)
    const scriptClient = new ScriptClient(namespace.redis, resolver, new GivenClock(T0))
    const [broken, plain] = await scriptClient.check([requestOf(scriptClient, 'one', CALL), requestOf(scriptClient, 'two', { agent: 'other', org: 'acme' })])
    expect(broken).toMatchObject({ outcome: 'reject', reason: 'limited', binding: { rule: 'own' } })
    expect(broken?.outcome === 'reject' && broken.retryAfterMs).toBeCloseTo(1000, 1)
    expect(plain?.outcome).toBe('run')
  }
})

test('while Redis is away a process that was given it goes on within its share, another one refuses', async () => {
  const { server, namespace } = await ownRedis()
  const rules = [session(40, 'hour', { strategy: 'hard' }), { name: 'plain', scope: 'user', limits: [{ requests: 40, per: 'hour' }] } as RuleSpec]
  const first = await namespace.open({ algorithms, rules })
  const other = await namespace.open()
  await server.kill()
  onTestFinished(() => server.stop())
  for (const tollgate of [first, other]) {
    await tollgate.gate.peek({ agent: 'x' }).catch(() => {})
    await untilAway(tollgate)
  }
  const grants = await Promise.all(Array.from({ length: 40 }, () => first.gate.admit(CALL)))
  // A tenth of its share: a window may have begun before.
  const passed = grants.filter(({ allowed }) => allowed).length
  expect([2, 4]).toContain(passed)
  expect((await other.gate.admit(CALL)).decision).toMatchObject({ outcome: 'reject', reason: 'unavailable' })
  expect((await other.gate.admit({ agent: 'x', user: 'u' })).allowed).toBe(true)
  await server.start()
  await untilBack(first)
  await until('all are charged', async () => (await usedBy(first, CALL, 'requests/hour')) === passed)
})
