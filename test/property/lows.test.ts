import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { AdmissionRequest } from '../../src/admission/request.js'
import type { LimitSpec, Store } from '../../src/index.js'
import { AS_ESTIMATED, NOTHING } from '../../src/model/cost.js'
import { GivenClock } from '../../src/model/time.js'
import { MemoryStore } from '../../src/store/memory/memory-store.js'
import { requestFor } from '../../testing/request.js'
import { forget } from '../support/keys.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { T0 } from '../support/script-client.js'
import { redisStore } from '../support/stores.js'

const BURST = 100
const PER_MS = 0.01
const LIMIT: LimitSpec = { tokens: 600, per: 'minute', burst: BURST }
const CLOSE = 1e-6

/** A call as far as it is known: its estimate, and once it has ended its actual cost. */
interface Known {
  readonly atMs: number
  cost: number
}

/** What a bucket lacks that was fed with these costs at their starts: by sums from each start on, without any algorithm of the program. */
function lacks(calls: readonly Known[], nowMs: number): number {
  let [most, sum] = [0, 0]
  for (const { atMs, cost } of calls.toReversed()) {
    sum += cost
    most = Math.max(most, sum - (nowMs - atMs) * PER_MS)
  }
  return most
}

function requestUnder(limit: LimitSpec, namespace = 'contract'): AdmissionRequest {
  return requestFor([{ name: 'r', scope: 'agent', limits: [limit] }], { agent: 'a' }, {}, { namespace })
}

const steps = fc.array(
  fc.record({
    ms: fc.oneof(fc.constantFrom(0, 1000), fc.double({ min: 0, max: 4000, noNaN: true })),
    tokens: fc.double({ min: 1, max: 60, noNaN: true }),
    ends: fc.option(fc.record({ which: fc.nat(), share: fc.constantFrom(0, 0, 0.3, 0.9, 1) })),
  }),
  { minLength: 10, maxLength: 60 },
)
type Steps = typeof steps extends fc.Arbitrary<infer Some> ? Some : never

/**
 * Compares what is used after each step with what a bucket lacks that had known all costs that are known by now from the start.
 * @param most how many calls are open at once, at most: the oldest is settled where there would be more
 */
async function compare(store: Store, clock: GivenClock, request: AdmissionRequest, given: Steps, most: number, check: (used: number, exact: number) => void) {
  const calls: Known[] = []
  const open: { known: Known; request: AdmissionRequest }[] = []
  const settle = async (which: number, share: number) => {
    const [{ known, request: started }] = open.splice(which % open.length, 1) as [(typeof open)[number]]
    known.cost *= share
    await store.settle(started, { ...AS_ESTIMATED, tokens: known.cost }, 'end')
  }
  for (const { ms, tokens, ends } of given) {
    clock.advance(ms)
    if (open.length >= most) await settle(0, 0.5)
    const { request: started, decision } = await store.admit({ ...request, costs: { ...NOTHING, tokens } })
    if (decision.outcome === 'run') {
      const known = { atMs: clock.nowMs, cost: tokens }
      calls.push(known)
      open.push({ known, request: started })
    }
    if (ends !== null && open.length > 0) await settle(ends.which, ends.share)
    const [usage] = (await store.peek(request)).usage
    check(usage?.used ?? Number.NaN, lacks(calls, clock.nowMs))
  }
}

const exactly = (used: number, exact: number) => expect(Math.abs(used - exact)).toBeLessThanOrEqual(CLOSE)

test('up to eight open calls leave a bucket exactly as if what they cost had been known when they started (store in memory)', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (given) => {
      const clock = new GivenClock(T0)
      await compare(new MemoryStore(() => clock.nowMs), clock, requestUnder(LIMIT), given, 8, exactly)
    }),
    { numRuns: runs(200) },
  )
})

test('up to eight open calls leave a bucket exactly as if what they cost had been known when they started (store in Redis)', async () => {
  const namespace = newNamespace()
  await fc.assert(
    fc.asyncProperty(steps, async (given) => {
      await forget(namespace)
      const clock = new GivenClock(T0)
      await compare(redisStore(namespace, clock), clock, requestUnder(LIMIT, namespace.name), given, 8, exactly)
    }),
    { numRuns: runs(15) },
  )
})

test('more of them never leave it emptier than that, and hardly fuller', async () => {
  let [sum, count] = [0, 0]
  const many = fc.array(
    fc.record({
      ms: fc.double({ min: 0, max: 300, noNaN: true }),
      tokens: fc.double({ min: 1, max: 10, noNaN: true }),
      ends: fc.option(fc.record({ which: fc.nat(), share: fc.constantFrom(0, 0.3, 0.9) })),
    }),
    { minLength: 100, maxLength: 300 },
  )
  await fc.assert(
    fc.asyncProperty(many, async (given) => {
      const clock = new GivenClock(T0)
      await compare(new MemoryStore(() => clock.nowMs), clock, requestUnder(LIMIT), given, Number.POSITIVE_INFINITY, (used, exact) => {
        expect(used).toBeGreaterThanOrEqual(exact - CLOSE)
        sum += used - exact
        count++
      })
    }),
    { numRuns: runs(60) },
  )
  expect(sum / count / BURST).toBeLessThan(0.02)
})

/** The bytes of the only meter. */
async function bytes({ redis, keys }: Namespace): Promise<number> {
  return redis.strlen(keys.meter('r', 'a'))
}

test.each([
  { what: 'calls that are settled before the next one starts', limit: { tokens: 600, per: 'minute' }, settled: true },
  { what: 'calls of requests, settled or not', limit: { requests: 600, per: 'minute' }, settled: false },
])('the meter of one limit does not grow by $what', async ({ limit, settled }) => {
  const namespace = newNamespace()
  const clock = new GivenClock(T0)
  const store = redisStore(namespace, clock)
  const request = requestUnder(limit, namespace.name)
  await store.admit({ ...request, costs: { ...NOTHING, requests: 1, tokens: 1 }, forGood: true })
  const least = await bytes(namespace)
  for (let call = 0; call < 40; call++) {
    clock.advance(50)
    const { request: started } = await store.admit({ ...request, costs: { ...NOTHING, requests: 2, tokens: 9 } })
    expect(await bytes(namespace)).toBe(least)
    clock.advance(20)
    if (settled) await store.settle(started, { ...AS_ESTIMATED, tokens: 5 }, 'end')
    expect(await bytes(namespace)).toBe(least)
  }
})

test('a meter grows by eight entries at most while calls are open, and is as small as before when they have ended', async () => {
  const namespace = newNamespace()
  const clock = new GivenClock(T0)
  const store = redisStore(namespace, clock)
  const request = { ...requestUnder({ tokens: 6000, per: 'minute' }, namespace.name), costs: { ...NOTHING, tokens: 50 } }
  await store.admit({ ...request, forGood: true })
  const least = await bytes(namespace)
  const open: AdmissionRequest[] = []
  for (let call = 0; call < 40; call++) {
    clock.advance(50)
    open.push((await store.admit(request)).request)
    expect(await bytes(namespace)).toBeLessThanOrEqual(least + 8 * 24 + 2)
  }
  expect(await bytes(namespace)).toBeGreaterThan(least + 100)
  for (const started of open) await store.settle(started, AS_ESTIMATED, 'end')
  expect(await bytes(namespace)).toBe(least)
})
