import fc from 'fast-check'
import { expect, test } from 'vitest'
import { GivenClock, type RuleSpec } from '../../src/index.js'
import { AS_ESTIMATED, NOTHING } from '../../src/model/cost.js'
import type { UpstreamOutcome, UpstreamReport } from '../../src/model/upstream.js'
import { newNamespace } from '../support/namespace.js'
import { newPlace } from '../support/place.js'
import { runs } from '../support/runs.js'
import { resolverOf, T0 } from '../support/script-client.js'
import { redisStore } from '../support/stores.js'
import { guard, LimitedAgent, UpstreamSimulation } from '../support/upstream.js'

const FIVE_MINUTES = 300_000

/** A simulation on Redis, in its own namespace. */
function simulate(rules: readonly RuleSpec[], agent: Pick<LimitedAgent, 'call'>, latencyMs: () => number): UpstreamSimulation {
  const namespace = newNamespace()
  const clock = new GivenClock(T0)
  return new UpstreamSimulation(redisStore(namespace, clock), clock, resolverOf(namespace, rules), agent, latencyMs)
}

test.each([
  { perSecond: 10, burst: 5 },
  { perSecond: 20, burst: 1 },
  { perSecond: 100, burst: 10 },
])(
  '20 workers learn that an agent allows half of $perSecond/s: 2 % more 429s at most, and 90 % of its limit used (five minutes)',
  async ({ perSecond, burst }) => {
    const agent = new LimitedAgent(perSecond / 2, burst, T0)
    const simulation = simulate([guard(perSecond, burst)], agent, () => 25)
    await simulation.run(20, FIVE_MINUTES)
    expect(agent.refused).toBeGreaterThan(0)
    expect((agent.refused - 1) / simulation.starts.length).toBeLessThanOrEqual(0.02)
    expect(agent.served / ((perSecond / 2) * 300)).toBeGreaterThanOrEqual(0.9)
  },
)

test('after a cut no window holds more than the factor leaves of the limit', async () => {
  let cut = 0
  const cases = fc.record({ perSecond: fc.integer({ min: 5, max: 60 }), burst: fc.integer({ min: 1, max: 30 }), latencyMs: fc.integer({ min: 1, max: 80 }) })
  await fc.assert(
    fc.asyncProperty(cases, async ({ perSecond, burst, latencyMs }) => {
      // The agent refuses calls above its limit in the first 2 s, and none later: from then on only the factor holds the workers back.
      const agent = new LimitedAgent(perSecond / 2, 1, T0)
      const simulation = simulate([guard(perSecond, burst)], { call: (nowMs) => (nowMs < T0 + 2000 ? agent.call(nowMs) : 0) }, () => latencyMs)
      await simulation.run(20, 28_000)
      if (simulation.refusals.length === 0) return
      cut++
      const last = simulation.refusals.at(-1) as number
      // The factor is 0.5 at most: it grows after 30 s, and this run is shorter.
      const after = simulation.starts.filter((atMs) => atMs > last)
      for (let from = 0; from < after.length; from++) {
        for (let to = from; to < Math.min(after.length, from + 200); to++) {
          const lengthMs = (after[to] as number) - (after[from] as number)
          // Two more: the probe, and the call that a full bucket with a burst below one admits.
          expect(to - from + 1).toBeLessThanOrEqual((lengthMs / 1000) * perSecond * 0.5 + burst * 0.5 + 2)
        }
      }
    }),
    { numRuns: runs(20) },
  )
  expect(cut).toBeGreaterThan(0)
})

const RULES = [guard(10, 10)]
const NAME = { agent: 'llm' }

function reportOf(kind: UpstreamReport['kind'], retryAfterMs: number): UpstreamReport {
  return { kind, retryAfterMs, reduceFactor: 0.5, name: NAME, observed: null }
}

/** The block of one agent in a store in Redis, and the calls to it. */
function account() {
  const namespace = newNamespace()
  const clock = new GivenClock(T0)
  const store = redisStore(namespace, clock)
  const resolver = resolverOf(namespace, RULES)
  return {
    clock,
    store,
    admit: () => store.admit({ id: '', token: '', call: {}, ...resolver.resolve(NAME, { ...NOTHING, requests: 1 }) }),
    known: async () => (await store.upstreamStatus([resolver.blockOf(NAME)]))[0] as UpstreamOutcome,
    refuse: async (request: Awaited<ReturnType<typeof store.admit>>['request'], ms: number) => store.reportUpstream(request, reportOf('refused', ms)),
    end: async (request: Awaited<ReturnType<typeof store.admit>>['request']) => store.settle(request, AS_ESTIMATED, 'end'),
  }
}

test('any number of calls in flight that are refused are one event, and the latest deadline stands', async () => {
  const { clock, admit, refuse } = account()
  const inFlight = await Promise.all(Array.from({ length: 5 }, admit))
  clock.advance(50)
  const outcome = []
  for (const [index, { request }] of inFlight.entries()) outcome.push(await refuse(request, index === 2 ? 9000 : 1000))
  expect(outcome.map(({ cut }) => cut)).toEqual([true, false, false, false, false])
  expect(outcome.at(-1)).toMatchObject({ factor: 0.5, blockedUntilMs: clock.nowMs + 9000, canary: true })
  expect((await admit()).decision).toMatchObject({ outcome: 'reject', binding: { rule: '~block', limit: 'retry-after' } })
})

test('a call from before a block that is refused once the block has ended changes nothing, also where another block has begun', async () => {
  const { clock, admit, refuse, end, known } = account()
  const [first, slow, slower] = [await admit(), await admit(), await admit()]
  await refuse(first.request, 1000)
  clock.advance(1001)
  await end((await admit()).request)
  clock.advance(40_000)
  const before = await known()
  expect(await refuse(slow.request, 3000)).toMatchObject({ cut: false, canary: false, blockedUntilMs: before.blockedUntilMs, factor: before.factor })
  expect((await admit()).decision.outcome).toBe('run')
  await refuse((await admit()).request, 500)
  expect(await refuse(slower.request, 30_000), 'it does not know of this block').toMatchObject({ blockedUntilMs: clock.nowMs + 500 })
})

test('a block whose probes are refused grows while the agent asks for nothing, and is short again once calls have passed', async () => {
  const { clock, admit, refuse, end, known } = account()
  const blockedMs = async () => (await known()).blockedUntilMs - clock.nowMs
  const blocks: number[] = []
  for (let refusals = 0; refusals < 8; refusals++) {
    await refuse((await admit()).request, 1)
    blocks.push(await blockedMs())
    clock.advance((blocks.at(-1) as number) + 1)
  }
  expect(blocks).toEqual([1, 100, 200, 400, 800, 1600, 1600, 1600])
  for (let passed = 0; passed < 3; passed++) {
    await end((await admit()).request)
    clock.advance(400)
  }
  await refuse((await admit()).request, 1)
  expect(await blockedMs()).toBe(1)
})

test.each([90, 120, 300])('an agent that refuses a call every %d s, whatever the rate, is not cut to next to nothing in two hours', async (everyS) => {
  const { clock, admit, refuse, end, known } = account()
  const factors: number[] = []
  for (let second = 0; second < 7200; second += 10) {
    for (let calls = 0; calls < 4; calls++) {
      const { request, decision } = await admit()
      if (decision.outcome !== 'run') continue
      if (calls === 3 && second % everyS === 0) await refuse(request, 300)
      else await end(request)
      clock.advance(100)
    }
    clock.advance(9600)
    factors.push((await known()).factor)
  }
  expect(Math.min(...factors)).toBeGreaterThanOrEqual(0.4)
})

test('when a block ends one probe goes, then the others at half the rate, which grows', async () => {
  const { clock, admit, refuse, end, known } = account()
  const first = await admit()
  await refuse(first.request, 1000)
  clock.advance(1001)
  const probe = await admit()
  expect(probe.decision.outcome).toBe('run')
  expect((await admit()).decision.outcome, 'the others wait for it').toBe('reject')
  clock.advance(40)
  expect(await end(probe.request)).toBe(true)
  const sinceMs = clock.nowMs
  expect(await known()).toMatchObject({ factor: 0.5, canary: false, sinceMs })
  const next = await admit()
  expect(next.decision, 'the room that the agent has left is unknown').toMatchObject({
    outcome: 'reject',
    binding: { rule: '~block', limit: 'account/requests/second' },
  })
  clock.advance(201)
  expect((await admit()).decision.outcome).toBe('run')
  expect((await admit()).decision.outcome).toBe('reject')
  const factors = []
  for (let step = 0; step < 10; step++) {
    factors.push(Number((await known()).factor.toFixed(3)))
    clock.advance(30_000)
  }
  expect(factors).toEqual([0.5, 0.55, 0.605, 0.666, 0.732, 0.805, 0.886, 0.974, 1, 1])
})

test('a probe that dies, is released or refused: another one goes', async () => {
  const { clock, store, admit, refuse, known } = account()
  await refuse((await admit()).request, 1000)
  clock.advance(1001)
  const released = await admit()
  await store.release(released.request)
  const dies = await admit()
  expect(dies.decision.outcome, 'after one that was released').toBe('run')
  expect((await admit()).decision.outcome).toBe('reject')
  clock.advance(60_001)
  const refused = await admit()
  expect(refused.decision.outcome, 'after the lease of one that died').toBe('run')
  expect(await refuse(refused.request, 2000), 'a refused probe is no second cut').toMatchObject({ cut: false, factor: 0.5 })
  expect((await admit()).decision.outcome).toBe('reject')
  clock.advance(2001)
  expect((await admit()).decision.outcome).toBe('run')
  expect((await known()).canary).toBe(true)
})

test('after a failed try the factor goes back to the stable one; where that fails, too, it is halved', async () => {
  const { clock, admit, refuse, end, known } = account()
  const round = async () => {
    const { request } = await admit()
    await refuse(request, 1000)
    clock.advance(1001)
    await end((await admit()).request)
    return (await known()).factor
  }
  expect(await round()).toBe(0.5)
  clock.advance(31_000)
  expect((await known()).factor).toBeCloseTo(0.55, 6)
  expect(await round(), '0.5 held for a whole period, so it is stable').toBe(0.5)
  clock.advance(5000)
  expect(await round(), 'a refusal soon after the failed try halves nothing').toBe(0.5)
  clock.advance(5000)
  expect(await round()).toBe(0.25)
})

test('a block is kept until its probe has ended, however short recovery is', async () => {
  const clock = new GivenClock(T0)
  const tollgate = await newPlace('Redis', clock).open({
    rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 100, per: 'second' }] }],
    upstream: { recoverEveryMs: 100, recoverFactor: 2 },
  })
  const call = { agent: 'llm' }
  await tollgate.capacity.announce({ ...call, retryAfterMs: 50 })
  clock.advance(80)
  const probe = await tollgate.gate.admit(call)
  expect([probe.allowed, (await tollgate.gate.admit(call)).allowed]).toEqual([true, false])
  clock.advance(500)
  expect((await tollgate.gate.admit(call)).allowed).toBe(false)
  await probe.settle()
  clock.advance(200)
  expect((await tollgate.gate.admit(call)).allowed).toBe(true)
})
