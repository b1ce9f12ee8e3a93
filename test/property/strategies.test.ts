import { pino } from 'pino'
import { afterEach, expect, test } from 'vitest'
import type { CallRequest } from '../../src/admission/request.js'
import type { Call, CustomStrategy, Decision, RuleSpec, Strategy } from '../../src/index.js'
import type { GivenClock } from '../../src/model/time.js'
import { readRecord } from '../../src/queue/stored-call.js'
import { type ResolvedDecision, StrategyResolver } from '../../src/queue/strategy-resolver.js'
import type { ScriptClient } from '../../src/store/redis/script-client.js'
import { ask, decideAt, givenGate } from '../support/gate.js'
import { newNamespace } from '../support/namespace.js'

const DOORS = ['enqueue', 'start'] as const
type Door = (typeof DOORS)[number]
const STRATEGIES = ['queue', 'throttle', 'graceful', 'retry_after', 'hard', 'custom:mine'] as const

/** Ten a second, one at once; in degraded mode two a minute. */
const RULE: RuleSpec = { name: 'r', scope: 'agent', limits: [{ requests: 10, per: 'second', burst: 1 }], degraded: [{ requests: 2, per: 'minute' }] }
const SPACING_MS = 100

interface Scene {
  readonly gate: ScriptClient
  readonly clock: GivenClock
  /** Asks at the door, as the front door and the worker do; each call by an id of its own. */
  decide(call?: Partial<Call>): Promise<ResolvedDecision>
}

/** What was decided in a test: taken back at its end, since no worker will. */
const made: { gate: ScriptClient; decided: ResolvedDecision }[] = []

afterEach(async () => {
  for (const { gate, decided } of made.splice(0)) {
    const line = readRecord(await gate.recordOf(decided.request.id))?.line ?? ''
    await gate.release(decided.request, line)
  }
})

function scene(door: Door, rules: readonly RuleSpec[], custom: CustomStrategy = () => ({ outcome: 'reject', retryAfterMs: 7 })): Scene {
  const namespace = newNamespace()
  const { gate, clock } = givenGate(namespace, rules)
  const strategyResolver = new StrategyResolver(gate, { mine: custom }, pino({ level: 'silent' }))
  let calls = 0
  return {
    gate,
    clock,
    decide: async (call = {}) => {
      const request = ask(gate, `c${++calls}`, { agent: 'llm', ...call })
      const send = async (one: CallRequest) => ({ request: one, decision: (await decideAt(gate, door, [one]))[0] as Decision })
      const first = await send(request)
      const decided = first.decision.outcome === 'reject' ? await strategyResolver.resolve(request, first.decision, send) : first
      made.push({ gate, decided })
      return decided
    },
  }
}

function ruleWith(strategy: Strategy, more: Partial<RuleSpec> = {}): RuleSpec {
  return { ...RULE, strategy, ...more }
}

/** What a test expects of a decision: the outcome, and what it says besides. */
type Expected = Readonly<Record<string, unknown>>

const LIMITED: Expected = { outcome: 'reject', reason: 'limited' }
const near = (ms: number) => expect.closeTo(ms, 0)

/** With one call just started: the next has to wait for a tenth of a second. */
const SOON: Readonly<Record<(typeof STRATEGIES)[number], (door: Door) => Expected>> = {
  queue: () => ({ outcome: 'wait', etaMs: near(SPACING_MS), position: 0 }),
  throttle: (door) => (door === 'enqueue' ? { outcome: 'run', delayMs: near(SPACING_MS) } : { outcome: 'hold', waitMs: near(SPACING_MS) }),
  graceful: () => ({ outcome: 'degrade', binding: expect.objectContaining({ rule: 'r' }) }),
  retry_after: () => ({ ...LIMITED, strategy: 'retry_after', retryAfterMs: near(SPACING_MS) }),
  hard: () => ({ ...LIMITED, strategy: 'hard', retryAfterMs: null }),
  'custom:mine': () => ({ ...LIMITED, strategy: 'custom:mine', retryAfterMs: 7 }),
}

/** With its one slot taken: when it comes free nobody can know. */
const UNKNOWN: Readonly<Record<(typeof STRATEGIES)[number], Expected>> = {
  queue: { outcome: 'wait', etaMs: null },
  throttle: { outcome: 'wait', etaMs: null },
  graceful: { outcome: 'degrade' },
  retry_after: { ...LIMITED, retryAfterMs: null },
  hard: { ...LIMITED, retryAfterMs: null },
  'custom:mine': { ...LIMITED, retryAfterMs: 7 },
}

const EVERYWHERE = DOORS.flatMap((door) => STRATEGIES.map((strategy) => [door, strategy] as const))

test.each(EVERYWHERE)('at the %s door, %s: a call with room runs', async (door, strategy) => {
  const { decide } = scene(door, [ruleWith(strategy)])
  expect((await decide()).decision).toMatchObject({ outcome: 'run' })
})

test.each(EVERYWHERE)('at the %s door, %s: a call without room does as its rule says', async (door, strategy) => {
  const { decide } = scene(door, [ruleWith(strategy)])
  await decide()
  expect((await decide()).decision).toMatchObject(SOON[strategy](door))
})

test.each(EVERYWHERE)('at the %s door, %s: what a call says of itself goes before its rule', async (door, strategy) => {
  const { decide } = scene(door, [ruleWith(strategy === 'queue' ? 'hard' : 'queue')])
  await decide()
  expect((await decide({ strategy })).decision).toMatchObject(SOON[strategy](door))
})

test.each(EVERYWHERE)('at the %s door, %s: a wait that nobody can know', async (door, strategy) => {
  const { decide } = scene(door, [ruleWith(strategy, { limits: [{ concurrency: 1 }] })])
  await decide()
  expect((await decide()).decision).toMatchObject(UNKNOWN[strategy])
})

test.each(EVERYWHERE)('at the %s door, %s: what can never pass is said at once', async (door, strategy) => {
  const limits = [{ tokens: 10, per: 'second' }]
  const { decide } = scene(door, [ruleWith(strategy, { limits }), { name: 'shut', scope: 'model', limits: [{ requests: 0, per: 'day' }] }])
  expect((await decide({ cost: { tokens: 11 } })).decision).toMatchObject({ outcome: 'reject', reason: 'too_big', retryAfterMs: null })
  expect((await decide({ model: 'm' })).decision).toMatchObject({ outcome: 'reject', reason: 'closed', retryAfterMs: null })
})

test.each(EVERYWHERE)('at the %s door, %s: a call whose deadline has passed costs nothing', async (door, strategy) => {
  const { gate, clock, decide } = scene(door, [ruleWith(strategy)])
  expect((await decide({ deadline: new Date(clock.nowMs - 1) })).decision).toMatchObject({ outcome: 'expired' })
  expect((await gate.peek([ask(gate, 'p', { agent: 'llm' })]))[0]?.usage[0]).toMatchObject({ used: 0, claimed: 0 })
})

test.each(EVERYWHERE)('at the %s door, %s: a deadline before there is room', async (door, strategy) => {
  const { clock, decide } = scene(door, [ruleWith(strategy)])
  await decide()
  const waits = strategy === 'queue' || strategy === 'throttle'
  const late = { outcome: 'reject', reason: 'late', retryAfterMs: null, etaMs: near(SPACING_MS) }
  expect((await decide({ deadline: new Date(clock.nowMs + 50).toISOString() })).decision).toMatchObject(waits ? late : SOON[strategy](door))
  expect((await decide({ maxWaitMs: 50 })).decision).toMatchObject(waits ? late : { ...SOON[strategy](door) })
  // It is told nothing but what is so: a deadline that it meets is taken.
  expect((await decide({ maxWaitMs: 150 })).decision).toMatchObject(waits ? SOON[strategy](door) : { outcome: 'reject' })
})

test.each(DOORS)('at the %s door: the bound of a rule is that of its line, and a call goes before it', async (door) => {
  const { decide } = scene(door, [ruleWith('queue', { maxWaitMs: 150 })])
  await decide()
  expect((await decide()).decision).toMatchObject({ outcome: 'wait' })
  expect((await decide()).decision).toMatchObject({ outcome: 'reject', reason: 'late', etaMs: near(2 * SPACING_MS) })
  expect((await decide({ maxWaitMs: 250 })).decision).toMatchObject({ outcome: 'wait' })
})

test.each(DOORS)('at the %s door: a full line is said with its length, and per scope value', async (door) => {
  const { decide } = scene(door, [ruleWith('queue', { maxWaiting: 2 })])
  for (const outcome of ['run', 'wait', 'wait']) expect((await decide()).decision).toMatchObject({ outcome })
  expect((await decide()).decision).toMatchObject({ outcome: 'reject', reason: 'line_full', waiting: 2, binding: { rule: 'r', scopeValue: 'llm' } })
  for (const outcome of ['run', 'wait']) expect((await decide({ agent: 'other' })).decision).toMatchObject({ outcome })
})

test.each(DOORS)('at the %s door: throttle spaces calls evenly, in line above its hold, and refuses above its delay', async (door) => {
  const { decide } = scene(door, [ruleWith('throttle', { maxDelayMs: 450 })])
  const slowed = door === 'enqueue' ? 'delayMs' : 'waitMs'
  await decide()
  const first = (await decide()).decision as unknown as Record<string, number>
  const second = (await decide()).decision as unknown as Record<string, number>
  expect([first[slowed], second[slowed]]).toEqual([near(SPACING_MS), near(2 * SPACING_MS)])
  expect((await decide()).decision).toMatchObject({ outcome: 'wait', etaMs: near(3 * SPACING_MS) })
  // There is a line now: nobody overtakes it, however short the wait.
  expect((await decide()).decision).toMatchObject({ outcome: 'wait', etaMs: near(4 * SPACING_MS) })
  expect((await decide()).decision).toMatchObject({ ...LIMITED, strategy: 'throttle', retryAfterMs: near(5 * SPACING_MS) })
})

test('throttle spaces evenly what a window would let through as it opens', async () => {
  const { clock, decide } = scene('start', [ruleWith('throttle', { limits: [{ requests: 10, per: 'second', algorithm: 'fixed_window' }] })])
  expect((await decide()).decision).toMatchObject({ outcome: 'run' })
  expect((await decide()).decision).toMatchObject({ outcome: 'hold', waitMs: near(SPACING_MS) })
  clock.advance(1000)
  expect((await decide({ agent: 'other' })).decision).toMatchObject({ outcome: 'run' })
})

test.each(DOORS)('at the %s door: degradation has an allowance of its own, and cannot run away', async (door) => {
  const { gate, decide } = scene(door, [ruleWith('graceful')])
  for (const outcome of ['run', 'degrade', 'degrade']) expect((await decide()).decision).toMatchObject({ outcome })
  expect((await decide()).decision).toMatchObject({ ...LIMITED, binding: { rule: 'r~degraded', limit: 'requests/minute' } })
  const [normal] = await gate.peek([ask(gate, 'p', { agent: 'llm' })])
  expect(normal?.usage.map(({ used, claimed }) => used + claimed)).toEqual([1])
  const [degraded] = await gate.peek([ask(gate, 'p', { agent: 'llm', degraded: true })])
  expect(degraded?.usage.map(({ used, claimed }) => used + claimed)).toEqual([2])
})

test.each(DOORS)('at the %s door: what a graceful rule lets run degraded, another rule may still make wait', async (door) => {
  const account: RuleSpec = { name: 'account', scope: 'global', limits: [{ requests: 5, per: 'second', burst: 1 }] }
  const { gate, decide } = scene(door, [ruleWith('graceful', { priority: 1 }), account])
  await decide()
  expect((await decide()).decision).toMatchObject({ outcome: 'wait', binding: { rule: 'account' } })
  const [degraded] = await gate.peek([ask(gate, 'p', { agent: 'llm', degraded: true })])
  expect(degraded?.usage.find(({ rule }) => rule === 'r~degraded')).toMatchObject({ used: 0, claimed: 0 })
})

test.each([
  ['wait', { outcome: 'wait', etaMs: near(SPACING_MS) }],
  ['degrade', { outcome: 'degrade' }],
  ['reject', { ...LIMITED, retryAfterMs: null }],
] as const)('a strategy of your own may say %s', async (outcome, expected) => {
  const requests: [number | null, Call][] = []
  const { decide } = scene('enqueue', [ruleWith('custom:mine')], async (decision, call) => {
    requests.push([decision.retryAfterMs, call])
    return { outcome }
  })
  await decide()
  expect((await decide({ user: 'u' })).decision).toMatchObject(expected)
  expect(requests).toEqual([[near(SPACING_MS), expect.objectContaining({ user: 'u' })]])
})

test('a strategy of your own that answers nonsense is told so; one that is not known waits', async () => {
  const { decide } = scene('enqueue', [ruleWith('custom:mine')], (() => ({ outcome: 'run' })) as unknown as CustomStrategy)
  await decide()
  await expect(decide()).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('strategies.mine') })
  expect((await decide({ strategy: 'custom:none' })).decision).toMatchObject({ outcome: 'wait' })
})

test('of several rules that refuse, the one of highest priority decides, at equal priority the strictest', async () => {
  const strictest = ['queue', 'throttle', 'graceful', 'custom:mine', 'retry_after', 'hard'] as const
  for (const [place, lax] of strictest.entries()) {
    for (const strict of strictest.slice(place + 1)) {
      const one: RuleSpec = { ...RULE, name: 'one', strategy: lax }
      const other: RuleSpec = { ...RULE, name: 'other', strategy: strict }
      const equal = scene('start', [one, other])
      await equal.decide()
      const decidesBy = (await equal.decide()).decision
      // What runs degraded needs the room of the rule that is not graceful all the same.
      expect(decidesBy).toMatchObject(SOON[strict === 'graceful' ? lax : strict]('start'))
      const first = scene('start', [{ ...one, priority: 1 }, other])
      await first.decide()
      const { decision } = await first.decide()
      if (lax !== 'graceful') expect(decision).toMatchObject(SOON[lax]('start'))
    }
  }
})

test.each(DOORS)('at the %s door: whoever was refused with a time, and comes back then, is let in, whatever the limits', async (door) => {
  const limits = [
    { requests: 7, per: 'second' },
    { requests: 20, per: '3s', algorithm: 'sliding_window' },
    { tokens: 500, per: '2s', algorithm: 'fixed_window' },
    { tokens: 900, per: '7s', algorithm: 'sliding_log' },
    { points: 30, per: 'second', algorithm: 'leaky_bucket' },
  ] as const
  const { gate, clock, decide } = scene(door, [{ name: 'r', scope: 'agent', strategy: 'retry_after', limits: [...limits] }])
  const come = async (call: Partial<Call>) => {
    const { request, decision } = await decide(call)
    // What the front door lets in starts: room that is promised for good would be somebody else's.
    if (door === 'enqueue' && decision.outcome === 'run') expect((await decideAt(gate, 'start', [request]))[0]?.outcome).toBe('run')
    return decision
  }
  let refused = 0
  for (let i = 0; i < 300; i++) {
    const call = { cost: { tokens: (i * 37) % 90, points: 1 + (i % 3) } }
    const decision = await come(call)
    if (decision.outcome !== 'reject') continue
    refused++
    clock.advance(decision.retryAfterMs ?? Number.NaN)
    expect((await come(call)).outcome, `call ${i}`).toBe('run')
  }
  expect(refused).toBeGreaterThan(100)
})

test.each(DOORS)('at the %s door: who has room, but stands behind others of its rule, is told how long they wait', async (door) => {
  const limits = [
    { requests: 100, per: 'minute' },
    { tokens: 100, per: 'minute' },
  ]
  const { gate, decide } = scene(door, [ruleWith('queue', { limits })])
  await decide({ cost: { tokens: 100 } })
  expect((await decide({ cost: { tokens: 50 } })).decision).toMatchObject({ outcome: 'wait', etaMs: near(30_000) })
  const [direct] = await gate.check([{ ...ask(gate, 'd', { agent: 'llm', cost: { tokens: 0 } }), forGood: true, ledger: undefined }])
  expect(direct).toMatchObject({ outcome: 'reject' })
  expect((direct as { retryAfterMs: number }).retryAfterMs).toBeGreaterThan(29_000)
  expect((await decide({ cost: { tokens: 0 }, maxWaitMs: 1000 })).decision).toMatchObject({ outcome: 'reject', reason: 'late' })
  expect((await decide({ cost: { tokens: 0 }, strategy: 'retry_after' })).decision).toMatchObject({ ...LIMITED, retryAfterMs: expect.closeTo(30_000, -2) })
})

test.each(DOORS)('at the %s door: throttle does not refuse a call for the wait of those that it goes before', async (door) => {
  const { decide } = scene(door, [ruleWith('throttle', { holdMs: 0, maxDelayMs: 550 })])
  for (let i = 0; i < 6; i++) await decide()
  expect((await decide()).decision).toMatchObject({ ...LIMITED, strategy: 'throttle' })
  expect((await decide({ priority: 9 })).decision).toMatchObject({ outcome: 'wait', position: 0, etaMs: near(SPACING_MS) })
})

test("a call's own graceful at a rule without an allowance leaves the rule's own strategy in force", async () => {
  const { decide } = scene('enqueue', [ruleWith('custom:mine', { degraded: undefined })])
  await decide()
  expect((await decide({ strategy: 'graceful' })).decision).toMatchObject({ ...LIMITED, retryAfterMs: 7 })
})

test('the bound of a rule holds while its calls wait for a pause', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ruleWith('queue', { maxWaitMs: 300 })] })
  await tollgate.pause({ agent: 'llm' })
  tollgate.worker(async () => null)
  const ticket = await tollgate.enqueue({ agent: 'llm' })
  expect(ticket.decision).toMatchObject({ outcome: 'wait', etaMs: null })
  await expect(ticket.result()).rejects.toMatchObject({ code: 'CALL_EXPIRED' })
})
