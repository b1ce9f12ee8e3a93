import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Demands } from '../../src/admission/resolver.js'
import { GivenClock, type RuleSpec } from '../../src/index.js'
import { AS_ESTIMATED, NOTHING } from '../../src/model/cost.js'
import type { Announced, Announcement } from '../../src/model/upstream.js'
import { compileRules } from '../../src/policy/compile.js'
import { checkRules } from '../../src/policy/rules-file.js'
import { Keys } from '../../src/redis/keys.js'
import { demandsOf, T0 } from '../support/gate.js'
import { newNamespace } from '../support/namespace.js'
import { newPlace } from '../support/place.js'
import { runs } from '../support/runs.js'
import { bothStores } from '../support/stores.js'
import { guard, LimitedAgent, UpstreamFleet } from '../support/upstream.js'

const FIVE_MINUTES = 300_000

function demandsUnder(rules: readonly RuleSpec[]): Demands {
  return new Demands(compileRules(checkRules(rules).rules), new Keys('learned'))
}

test.each([
  { perSecond: 10, burst: 5 },
  { perSecond: 20, burst: 1 },
  { perSecond: 100, burst: 10 },
])('20 workers learn that an agent allows half of $perSecond/s: hardly a 429 more, and it is used (five minutes)', ({ perSecond, burst }) => {
  const agent = new LimitedAgent(perSecond / 2, burst, T0)
  const fleet = new UpstreamFleet(demandsUnder([guard(perSecond, burst)]), agent, () => 25)
  fleet.run(20, FIVE_MINUTES)
  expect(agent.refused).toBeGreaterThan(0)
  expect((agent.refused - 1) / fleet.starts.length).toBeLessThanOrEqual(0.02)
  expect(agent.served / ((perSecond / 2) * 300)).toBeGreaterThanOrEqual(0.9)
})

test('after a cut no window holds more than the factor leaves of the limit', () => {
  const cases = fc.record({ perSecond: fc.integer({ min: 5, max: 60 }), burst: fc.integer({ min: 1, max: 30 }), latencyMs: fc.integer({ min: 1, max: 80 }) })
  fc.assert(
    fc.property(cases, ({ perSecond, burst, latencyMs }) => {
      // Refuses what comes in the first moment, and nothing after that: the factor alone holds the fleet back.
      const agent = new LimitedAgent(perSecond / 2, 1, T0)
      const fleet = new UpstreamFleet(
        demandsUnder([guard(perSecond, burst)]),
        { call: (nowMs) => (nowMs < T0 + 2000 ? agent.call(nowMs) : 0) },
        () => latencyMs,
      )
      fleet.run(20, 28_000)
      if (fleet.refusals.length === 0) return
      const last = fleet.refusals.at(-1) as number
      // A factor of 0.5 at most, and of 0.55 once after 30 s, which this does not reach.
      const after = fleet.starts.filter((atMs) => atMs > last)
      for (let from = 0; from < after.length; from++) {
        for (let to = from; to < Math.min(after.length, from + 200); to++) {
          const lengthMs = (after[to] as number) - (after[from] as number)
          // The canary, and the one that a bucket below one lets through when it is full.
          expect(to - from + 1).toBeLessThanOrEqual((lengthMs / 1000) * perSecond * 0.5 + burst * 0.5 + 2)
        }
      }
    }),
    { numRuns: runs(20) },
  )
})

const RULES = [guard(10, 10)]
const NAME = { agent: 'llm' }

function said(kind: Announcement['kind'], retryAfterMs: number): Announcement {
  return { kind, retryAfterMs, reduceFactor: 0.5, name: NAME, observed: null }
}

/** The stores, each with what tests ask of it. */
function bothGates() {
  const namespace = newNamespace()
  const { clock, memory, redis } = bothStores(namespace)
  const demands = demandsOf(namespace, RULES)
  return [memory, redis].map((store) => ({
    clock,
    store,
    admit: async () => store.admit({ id: '', token: '', call: {}, demand: demands.demand(NAME, { ...NOTHING, requests: 1 }) }),
    announce: async (announcement: Announcement) => store.announce(demands.blockOf(NAME), announcement),
    known: async () => (await store.known([demands.blockOf(NAME)]))[0] as Announced,
    refuse: async (asked: Awaited<ReturnType<typeof store.admit>>['asked'], ms: number) => store.announce(asked, said('refused', ms)),
    end: async (asked: Awaited<ReturnType<typeof store.admit>>['asked']) => store.settle(asked, AS_ESTIMATED, 'end'),
  }))
}

test.each([0, 1])('any number of calls in flight that are refused are one event, and the latest deadline stands (store %i)', async (which) => {
  const { clock, admit, refuse } = bothGates()[which] as ReturnType<typeof bothGates>[number]
  const inFlight = await Promise.all(Array.from({ length: 5 }, admit))
  clock.advance(50)
  const announced = []
  for (const [index, { asked }] of inFlight.entries()) announced.push(await refuse(asked, index === 2 ? 9000 : 1000))
  expect(announced.map(({ cut }) => cut)).toEqual([true, false, false, false, false])
  expect(announced.at(-1)).toMatchObject({ factor: 0.5, blockedUntilMs: clock.nowMs + 9000, canary: true })
  expect((await admit()).decision).toMatchObject({ outcome: 'reject', binding: { rule: '~block', limit: 'retry-after' } })
})

test.each([0, 1])('a call from before a cut that is refused once recovery has begun prolongs the block, and cuts nothing (store %i)', async (which) => {
  const { clock, admit, refuse, end } = bothGates()[which] as ReturnType<typeof bothGates>[number]
  const [first, slow] = [await admit(), await admit()]
  await refuse(first.asked, 1000)
  clock.advance(1001)
  await end((await admit()).asked)
  clock.advance(40_000)
  const announced = await refuse(slow.asked, 3000)
  expect(announced).toMatchObject({ cut: false, canary: true, blockedUntilMs: clock.nowMs + 3000 })
  expect(announced.factor, 'it goes on where it was').toBeCloseTo(0.55, 9)
})

test.each([0, 1])('when a block ends one canary goes, then the others at half the rate, which grows (store %i)', async (which) => {
  const { clock, admit, refuse, end, known } = bothGates()[which] as ReturnType<typeof bothGates>[number]
  const first = await admit()
  await refuse(first.asked, 1000)
  clock.advance(1001)
  const canary = await admit()
  expect(canary.decision.outcome).toBe('run')
  expect((await admit()).decision.outcome, 'the others wait for it').toBe('reject')
  clock.advance(40)
  expect(await end(canary.asked)).toBe(true)
  const sinceMs = clock.nowMs
  expect(await known()).toMatchObject({ factor: 0.5, canary: false, sinceMs })
  const next = await admit()
  expect(next.decision, 'nobody knows what the agent has left').toMatchObject({
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

test.each([0, 1])('a canary that dies, is released or refused: another one goes (store %i)', async (which) => {
  const { clock, store, admit, refuse, known } = bothGates()[which] as ReturnType<typeof bothGates>[number]
  await refuse((await admit()).asked, 1000)
  clock.advance(1001)
  const released = await admit()
  await store.release(released.asked)
  const dies = await admit()
  expect(dies.decision.outcome, 'after one that was released').toBe('run')
  expect((await admit()).decision.outcome).toBe('reject')
  clock.advance(60_001)
  const refused = await admit()
  expect(refused.decision.outcome, 'after the lease of one that died').toBe('run')
  expect(await refuse(refused.asked, 2000), 'that it came too early is no second cut').toMatchObject({ cut: false, factor: 0.5 })
  expect((await admit()).decision.outcome).toBe('reject')
  clock.advance(2001)
  expect((await admit()).decision.outcome).toBe('run')
  expect((await known()).canary).toBe(true)
})

test.each([0, 1])('a level that held is come back to, a new one that fails is halved (store %i)', async (which) => {
  const { clock, admit, refuse, end, known } = bothGates()[which] as ReturnType<typeof bothGates>[number]
  const round = async () => {
    const { asked } = await admit()
    await refuse(asked, 1000)
    clock.advance(1001)
    await end((await admit()).asked)
    return (await known()).factor
  }
  expect(await round()).toBe(0.5)
  clock.advance(31_000)
  expect((await known()).factor).toBeCloseTo(0.55, 6)
  expect(await round(), 'half held for a whole period').toBe(0.5)
  clock.advance(5000)
  expect(await round(), 'what the try left behind halves nothing').toBe(0.5)
  clock.advance(5000)
  expect(await round()).toBe(0.25)
})

test.each(['memory', 'Redis'] as const)('nothing is over before the canary is back, however short recovery is (%s)', async (place) => {
  const clock = new GivenClock(T0)
  const tollgate = await newPlace(place, clock).open({
    rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 100, per: 'second' }] }],
    upstream: { recoverEveryMs: 100, recoverFactor: 2 },
  })
  const call = { agent: 'llm' }
  await tollgate.capacity.announce({ ...call, retryAfterMs: 50 })
  clock.advance(80)
  const canary = await tollgate.gate.admit(call)
  expect([canary.allowed, (await tollgate.gate.admit(call)).allowed]).toEqual([true, false])
  clock.advance(500)
  expect((await tollgate.gate.admit(call)).allowed).toBe(false)
  await canary.settle()
  clock.advance(200)
  expect((await tollgate.gate.admit(call)).allowed).toBe(true)
})
