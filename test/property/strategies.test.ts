import { pino } from 'pino'
import { afterEach, expect, test } from 'vitest'
import type { CallRequest } from '../../src/admission/request.js'
import type { Call, CustomStrategy, Decision, RuleSpec, Strategy } from '../../src/index.js'
import type { GivenClock } from '../../src/model/time.js'
import { readRecord } from '../../src/queue/stored-call.js'
import { type ResolvedDecision, StrategyResolver } from '../../src/queue/strategy-resolver.js'
import type { ScriptClient } from '../../src/store/redis/script-client.js'
import { newNamespace } from '../support/namespace.js'
import { decideBy, givenScriptClient, requestOf } from '../support/script-client.js'

const SCRIPTS = ['enqueue', 'start'] as const
type Script = (typeof SCRIPTS)[number]
const STRATEGIES = ['queue', 'throttle', 'graceful', 'retry_after', 'hard', 'custom:mine'] as const

/** Ten a second, one at once; in degraded mode two a minute. */
const RULE: RuleSpec = { name: 'r', scope: 'agent', limits: [{ requests: 10, per: 'second', burst: 1 }], degraded: [{ requests: 2, per: 'minute' }] }
const SPACING_MS = 100

interface Scene {
  readonly scriptClient: ScriptClient
  readonly clock: GivenClock
  /** Decides by the script and the strategies, as the Enqueuer and the worker do; each call has its own id. */
  decide(call?: Partial<Call>): Promise<ResolvedDecision>
}

/** Every decision of a test: its call is released at the end, as no worker runs it. */
const made: { scriptClient: ScriptClient; decided: ResolvedDecision }[] = []

afterEach(async () => {
  for (const { scriptClient, decided } of made.splice(0)) {
    const line = readRecord(await scriptClient.recordOf(decided.request.id))?.line ?? ''
    await scriptClient.release(decided.request, line)
  }
})

function scene(script: Script, rules: readonly RuleSpec[], custom: CustomStrategy = () => ({ outcome: 'reject', retryAfterMs: 7 })): Scene {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, rules)
  const strategyResolver = new StrategyResolver(scriptClient, { mine: custom }, pino({ level: 'silent' }))
  let calls = 0
  return {
    scriptClient,
    clock,
    decide: async (call = {}) => {
      const request = requestOf(scriptClient, `c${++calls}`, { agent: 'llm', ...call })
      const send = async (one: CallRequest) => ({ request: one, decision: (await decideBy(scriptClient, script, [one]))[0] as Decision })
      const first = await send(request)
      const decided = first.decision.outcome === 'reject' ? await strategyResolver.resolve(request, first.decision, send) : first
      made.push({ scriptClient, decided })
      return decided
    },
  }
}

function ruleWith(strategy: Strategy, more: Partial<RuleSpec> = {}): RuleSpec {
  return { ...RULE, strategy, ...more }
}

/** The outcome that a test expects of a decision, and further fields. */
type Expected = Readonly<Record<string, unknown>>

const LIMITED: Expected = { outcome: 'reject', reason: 'limited' }
const near = (ms: number) => expect.closeTo(ms, 0)

/** Expected where one call has just started: the next has room after a tenth of a second. */
const SOON: Readonly<Record<(typeof STRATEGIES)[number], (script: Script) => Expected>> = {
  queue: () => ({ outcome: 'wait', etaMs: near(SPACING_MS), position: 0 }),
  throttle: (script) => (script === 'enqueue' ? { outcome: 'run', delayMs: near(SPACING_MS) } : { outcome: 'hold', waitMs: near(SPACING_MS) }),
  graceful: () => ({ outcome: 'degrade', binding: expect.objectContaining({ rule: 'r' }) }),
  retry_after: () => ({ ...LIMITED, strategy: 'retry_after', retryAfterMs: near(SPACING_MS) }),
  hard: () => ({ ...LIMITED, strategy: 'hard', retryAfterMs: null }),
  'custom:mine': () => ({ ...LIMITED, strategy: 'custom:mine', retryAfterMs: 7 }),
}

/** Expected where the only slot is taken: the time at which it comes free is unknown. */
const UNKNOWN: Readonly<Record<(typeof STRATEGIES)[number], Expected>> = {
  queue: { outcome: 'wait', etaMs: null },
  throttle: { outcome: 'wait', etaMs: null },
  graceful: { outcome: 'degrade' },
  retry_after: { ...LIMITED, retryAfterMs: null },
  hard: { ...LIMITED, retryAfterMs: null },
  'custom:mine': { ...LIMITED, retryAfterMs: 7 },
}

const EVERYWHERE = SCRIPTS.flatMap((script) => STRATEGIES.map((strategy) => [script, strategy] as const))

test.each(EVERYWHERE)('at %s, %s: a call with room runs', async (script, strategy) => {
  const { decide } = scene(script, [ruleWith(strategy)])
  expect((await decide()).decision).toMatchObject({ outcome: 'run' })
})

test.each(EVERYWHERE)('at %s, %s: a call without room is decided by the strategy of its rule', async (script, strategy) => {
  const { decide } = scene(script, [ruleWith(strategy)])
  await decide()
  expect((await decide()).decision).toMatchObject(SOON[strategy](script))
})

test.each(EVERYWHERE)('at %s, %s: the strategy of a call goes before that of its rule', async (script, strategy) => {
  const { decide } = scene(script, [ruleWith(strategy === 'queue' ? 'hard' : 'queue')])
  await decide()
  expect((await decide({ strategy })).decision).toMatchObject(SOON[strategy](script))
})

test.each(EVERYWHERE)('at %s, %s: a call whose wait is unknown is decided by the strategy of its rule', async (script, strategy) => {
  const { decide } = scene(script, [ruleWith(strategy, { limits: [{ concurrency: 1 }] })])
  await decide()
  expect((await decide()).decision).toMatchObject(UNKNOWN[strategy])
})

test.each(EVERYWHERE)('at %s, %s: a call that can never pass is refused at once', async (script, strategy) => {
  const limits = [{ tokens: 10, per: 'second' }]
  const { decide } = scene(script, [ruleWith(strategy, { limits }), { name: 'shut', scope: 'model', limits: [{ requests: 0, per: 'day' }] }])
  expect((await decide({ cost: { tokens: 11 } })).decision).toMatchObject({ outcome: 'reject', reason: 'too_big', retryAfterMs: null })
  expect((await decide({ model: 'm' })).decision).toMatchObject({ outcome: 'reject', reason: 'closed', retryAfterMs: null })
})

test.each(EVERYWHERE)('at %s, %s: a call whose deadline has passed costs nothing', async (script, strategy) => {
  const { scriptClient, clock, decide } = scene(script, [ruleWith(strategy)])
  expect((await decide({ deadline: new Date(clock.nowMs - 1) })).decision).toMatchObject({ outcome: 'expired' })
  expect((await scriptClient.peek([requestOf(scriptClient, 'p', { agent: 'llm' })]))[0]?.usage[0]).toMatchObject({ used: 0, claimed: 0 })
})

test.each(EVERYWHERE)(
  'at %s, %s: where calls wait, a deadline before there is room is refused as late, and a later one is accepted',
  async (script, strategy) => {
    const { clock, decide } = scene(script, [ruleWith(strategy)])
    await decide()
    const waits = strategy === 'queue' || strategy === 'throttle'
    const late = { outcome: 'reject', reason: 'late', retryAfterMs: null, etaMs: near(SPACING_MS) }
    expect((await decide({ deadline: new Date(clock.nowMs + 50).toISOString() })).decision).toMatchObject(waits ? late : SOON[strategy](script))
    expect((await decide({ maxWaitMs: 50 })).decision).toMatchObject(waits ? late : { ...SOON[strategy](script) })
    // A deadline that the call meets is accepted.
    expect((await decide({ maxWaitMs: 150 })).decision).toMatchObject(waits ? SOON[strategy](script) : { outcome: 'reject' })
  },
)

test.each(SCRIPTS)('at %s: maxWaitMs of a rule holds for its line, and that of a call goes before it', async (script) => {
  const { decide } = scene(script, [ruleWith('queue', { maxWaitMs: 150 })])
  await decide()
  expect((await decide()).decision).toMatchObject({ outcome: 'wait' })
  expect((await decide()).decision).toMatchObject({ outcome: 'reject', reason: 'late', etaMs: near(2 * SPACING_MS) })
  expect((await decide({ maxWaitMs: 250 })).decision).toMatchObject({ outcome: 'wait' })
})

test.each(SCRIPTS)('at %s: a full line refuses a call with its length, and each scope value has its own line', async (script) => {
  const { decide } = scene(script, [ruleWith('queue', { maxWaiting: 2 })])
  for (const outcome of ['run', 'wait', 'wait']) expect((await decide()).decision).toMatchObject({ outcome })
  expect((await decide()).decision).toMatchObject({ outcome: 'reject', reason: 'line_full', waiting: 2, binding: { rule: 'r', scopeValue: 'llm' } })
  for (const outcome of ['run', 'wait']) expect((await decide({ agent: 'other' })).decision).toMatchObject({ outcome })
})

test.each(SCRIPTS)('at %s: throttle spaces calls evenly, in line above its hold, and refuses above its delay', async (script) => {
  const { decide } = scene(script, [ruleWith('throttle', { maxDelayMs: 450 })])
  const slowed = script === 'enqueue' ? 'delayMs' : 'waitMs'
  await decide()
  const first = (await decide()).decision as unknown as Record<string, number>
  const second = (await decide()).decision as unknown as Record<string, number>
  expect([first[slowed], second[slowed]]).toEqual([near(SPACING_MS), near(2 * SPACING_MS)])
  expect((await decide()).decision).toMatchObject({ outcome: 'wait', etaMs: near(3 * SPACING_MS) })
  // There is a line now: no call overtakes it, however short its wait.
  expect((await decide()).decision).toMatchObject({ outcome: 'wait', etaMs: near(4 * SPACING_MS) })
  expect((await decide()).decision).toMatchObject({ ...LIMITED, strategy: 'throttle', retryAfterMs: near(5 * SPACING_MS) })
})

test('throttle spaces evenly the calls that a window would admit at its begin', async () => {
  const { clock, decide } = scene('start', [ruleWith('throttle', { limits: [{ requests: 10, per: 'second', algorithm: 'fixed_window' }] })])
  expect((await decide()).decision).toMatchObject({ outcome: 'run' })
  expect((await decide()).decision).toMatchObject({ outcome: 'hold', waitMs: near(SPACING_MS) })
  clock.advance(1000)
  expect((await decide({ agent: 'other' })).decision).toMatchObject({ outcome: 'run' })
})

test.each(SCRIPTS)('at %s: degraded calls have their own allowance, and are refused above it', async (script) => {
  const { scriptClient, decide } = scene(script, [ruleWith('graceful')])
  for (const outcome of ['run', 'degrade', 'degrade']) expect((await decide()).decision).toMatchObject({ outcome })
  expect((await decide()).decision).toMatchObject({ ...LIMITED, binding: { rule: 'r~degraded', limit: 'requests/minute' } })
  const [normal] = await scriptClient.peek([requestOf(scriptClient, 'p', { agent: 'llm' })])
  expect(normal?.usage.map(({ used, claimed }) => used + claimed)).toEqual([1])
  const [degraded] = await scriptClient.peek([requestOf(scriptClient, 'p', { agent: 'llm', degraded: true })])
  expect(degraded?.usage.map(({ used, claimed }) => used + claimed)).toEqual([2])
})

test.each(SCRIPTS)('at %s: a call that a graceful rule lets run degraded waits where another rule has no room', async (script) => {
  const account: RuleSpec = { name: 'account', scope: 'global', limits: [{ requests: 5, per: 'second', burst: 1 }] }
  const { scriptClient, decide } = scene(script, [ruleWith('graceful', { priority: 1 }), account])
  await decide()
  expect((await decide()).decision).toMatchObject({ outcome: 'wait', binding: { rule: 'account' } })
  // The allowance refuses above it: what a call is going to charge there when it has waited counts already.
  const [degraded] = await scriptClient.peek([requestOf(scriptClient, 'p', { agent: 'llm', degraded: true })])
  expect(degraded?.usage.find(({ rule }) => rule === 'r~degraded')).toMatchObject({ used: 0, claimed: 1 })
})

test.each([
  ['wait', { outcome: 'wait', etaMs: near(SPACING_MS) }],
  ['degrade', { outcome: 'degrade' }],
  ['reject', { ...LIMITED, retryAfterMs: null }],
] as const)('a custom strategy may answer %s', async (outcome, expected) => {
  const given: [number | null, Call][] = []
  const { decide } = scene('enqueue', [ruleWith('custom:mine')], async (decision, call) => {
    given.push([decision.retryAfterMs, call])
    return { outcome }
  })
  await decide()
  expect((await decide({ user: 'u' })).decision).toMatchObject(expected)
  expect(given).toEqual([[near(SPACING_MS), expect.objectContaining({ user: 'u' })]])
})

test('an invalid answer of a custom strategy is an error; a call whose custom strategy is unknown waits', async () => {
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
      // A degraded call still needs room at the rule that is not graceful.
      expect(decidesBy).toMatchObject(SOON[strict === 'graceful' ? lax : strict]('start'))
      const first = scene('start', [{ ...one, priority: 1 }, other])
      await first.decide()
      const { decision } = await first.decide()
      if (lax !== 'graceful') expect(decision).toMatchObject(SOON[lax]('start'))
    }
  }
})

test.each(SCRIPTS)('at %s: a call that was refused with a time is admitted at that time, whatever the limits', async (script) => {
  const limits = [
    { requests: 7, per: 'second' },
    { requests: 20, per: '3s', algorithm: 'sliding_window' },
    { tokens: 500, per: '2s', algorithm: 'fixed_window' },
    { tokens: 900, per: '7s', algorithm: 'sliding_log' },
    { points: 30, per: 'second', algorithm: 'leaky_bucket' },
  ] as const
  const { scriptClient, clock, decide } = scene(script, [{ name: 'r', scope: 'agent', strategy: 'retry_after', limits: [...limits] }])
  const come = async (call: Partial<Call>) => {
    const { request, decision } = await decide(call)
    // An enqueued call starts at once: a claim that stays would take the room of other calls.
    if (script === 'enqueue' && decision.outcome === 'run') expect((await decideBy(scriptClient, 'start', [request]))[0]?.outcome).toBe('run')
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

test.each(SCRIPTS)('at %s: a call that has room but stands behind others of its rule is given the wait of these', async (script) => {
  const limits = [
    { requests: 100, per: 'minute' },
    { tokens: 100, per: 'minute' },
  ]
  const { scriptClient, decide } = scene(script, [ruleWith('queue', { limits })])
  await decide({ cost: { tokens: 100 } })
  expect((await decide({ cost: { tokens: 50 } })).decision).toMatchObject({ outcome: 'wait', etaMs: near(30_000) })
  const [direct] = await scriptClient.check([{ ...requestOf(scriptClient, 'd', { agent: 'llm', cost: { tokens: 0 } }), forGood: true, ledger: undefined }])
  expect(direct).toMatchObject({ outcome: 'reject' })
  expect((direct as { retryAfterMs: number }).retryAfterMs).toBeGreaterThan(29_000)
  expect((await decide({ cost: { tokens: 0 }, maxWaitMs: 1000 })).decision).toMatchObject({ outcome: 'reject', reason: 'late' })
  expect((await decide({ cost: { tokens: 0 }, strategy: 'retry_after' })).decision).toMatchObject({ ...LIMITED, retryAfterMs: expect.closeTo(30_000, -2) })
})

test.each(SCRIPTS)('at %s: throttle does not refuse a call for the wait of calls of a lower priority', async (script) => {
  const { decide } = scene(script, [ruleWith('throttle', { holdMs: 0, maxDelayMs: 550 })])
  for (let i = 0; i < 6; i++) await decide()
  expect((await decide()).decision).toMatchObject({ ...LIMITED, strategy: 'throttle' })
  expect((await decide({ priority: 9 })).decision).toMatchObject({ outcome: 'wait', position: 0, etaMs: near(SPACING_MS) })
})

test('a call with the strategy graceful, at a rule without an allowance, is decided by the strategy of the rule', async () => {
  const { decide } = scene('enqueue', [ruleWith('custom:mine', { degraded: undefined })])
  await decide()
  expect((await decide({ strategy: 'graceful' })).decision).toMatchObject({ ...LIMITED, retryAfterMs: 7 })
})

test('maxWaitMs of a rule holds while its calls wait for a pause', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [ruleWith('queue', { maxWaitMs: 300 })] })
  await tollgate.pause({ agent: 'llm' })
  tollgate.worker(async () => null)
  const ticket = await tollgate.enqueue({ agent: 'llm' })
  expect(ticket.decision).toMatchObject({ outcome: 'wait', etaMs: null })
  await expect(ticket.result()).rejects.toMatchObject({ code: 'CALL_EXPIRED' })
})
