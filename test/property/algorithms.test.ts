import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { AdmissionRequest } from '../../src/admission/request.js'
import type { LimitSpec, RuleSpec, Store } from '../../src/index.js'
import { NAMED_ALGORITHMS } from '../../src/limits/algorithms.js'
import { periodMs } from '../../src/limits/limit.js'
import { AS_ESTIMATED, NOTHING } from '../../src/model/cost.js'
import { GivenClock, redisClock } from '../../src/model/time.js'
import { MemoryStore } from '../../src/store/memory/memory-store.js'
import { RedisStore } from '../../src/store/redis/redis-store.js'
import { ScriptClient } from '../../src/store/redis/script-client.js'
import { requestFor } from '../../testing/request.js'
import { forget, snapshot } from '../support/keys.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { resolverOf, T0 } from '../support/script-client.js'
import { bothStores } from '../support/stores.js'
import { expectNeverOver, type Start } from '../support/sums.js'

/** A limit of each algorithm; fixed windows also of a calendar, buckets also with a burst of their own. */
const KINDS: readonly LimitSpec[] = [
  ...NAMED_ALGORITHMS.map((algorithm) => ({ algorithm })),
  { algorithm: 'fixed_window', per: 'day', timezone: 'Europe/Berlin' },
  { algorithm: 'token_bucket', burst: 1.5 },
]

function named(kind: LimitSpec): string {
  return [kind.algorithm, kind.timezone, kind.burst].filter((part) => part !== undefined).join(', ')
}

/** Requests under these limits, whose rule is compiled once. */
function requestsUnder(limits: RuleSpec['limits'], namespace = 'contract'): (tokens: number, forGood?: boolean) => AdmissionRequest {
  const request = requestFor([{ name: 'r', scope: 'agent', limits }], { agent: 'a' }, {}, { namespace })
  return (tokens, forGood = false) => ({ ...request, forGood, costs: { ...NOTHING, requests: 1, tokens, usd: tokens / 100, points: 1 } })
}

const amounts = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.double({ min: 0.3, max: 40, noNaN: true }))
const windows = fc.constantFrom('250ms', 'second', '7s', 'minute', 'hour')

/** Costs as shares of the limit, and waits before them as shares of the window; -1 waits for the `retryAfterMs` of the call before. */
const offers = fc.array(
  fc.record({
    share: fc.oneof(fc.constantFrom(1, 0.5, 0.1, 1 / 3), fc.double({ min: 0.001, max: 1, noNaN: true })),
    wait: fc.oneof(fc.constantFrom(0, -1, -1, 1 / 32, 1 / 64), fc.double({ min: 0, max: 0.2, noNaN: true }), fc.double({ min: 0, max: 1.4, noNaN: true })),
  }),
  { minLength: 20, maxLength: 120 },
)

async function starts(
  store: Store,
  clock: GivenClock,
  requestOf: (tokens: number) => AdmissionRequest,
  most: number,
  windowMs: number,
  given: readonly { share: number; wait: number }[],
) {
  const started: Start[] = []
  let retryAfterMs = 0
  for (const { share, wait } of given) {
    clock.advance(wait < 0 ? retryAfterMs : wait * windowMs)
    const amount = share * most
    const { decision } = await store.admit(requestOf(amount))
    retryAfterMs = decision.outcome === 'reject' ? (decision.retryAfterMs ?? 0) : 0
    if (decision.outcome === 'run') started.push({ atMs: clock.nowMs, amount })
  }
  return started
}

test.each(KINDS.map((kind) => [named(kind), kind] as const))('%s is never over in any window that it promises (invariant 1)', async (_, kind) => {
  await fc.assert(
    fc.asyncProperty(amounts, windows, fc.double({ min: 0, max: 1, noNaN: true }), offers, async (amount, per, offset, given) => {
      const spec: LimitSpec = { tokens: amount, per, ...kind, ...(kind.burst === undefined ? {} : { burst: amount * kind.burst }) }
      const windowMs = periodMs(spec.per as string) as number
      // In March Berlin has a day of 23 hours.
      const clock = new GivenClock(Date.UTC(2027, 2, 26) + offset * windowMs)
      const started = await starts(new MemoryStore(() => clock.nowMs), clock, requestsUnder([spec]), Math.min(amount, spec.burst ?? amount), windowMs, given)
      expectNeverOver(started, spec, amount, windowMs)
      expect(started.length).toBeGreaterThan(0)
    }),
    { numRuns: runs(60) },
  )
})

/** All algorithms in one rule, in several units. */
const LOG_WINDOW_MS = 7000
const ALL: RuleSpec['limits'] = [
  { name: 'bucket', tokens: 100, per: '10s', burst: 60 },
  { name: 'fixed', tokens: 150, per: '5s', algorithm: 'fixed_window' },
  { name: 'window', tokens: 300, per: '20s', algorithm: 'sliding_window' },
  { name: 'log', usd: 1.2, per: '7s', algorithm: 'sliding_log' },
  { name: 'leaky', points: 40, per: '10s', algorithm: 'leaky_bucket' },
  { concurrency: 6 },
]

const moves = fc.array(
  fc.record({ ms: fc.double({ min: 0, max: 2500, noNaN: true }), tokens: fc.double({ min: 0.1, max: 70, noNaN: true }), peek: fc.boolean() }),
  {
    minLength: 5,
    maxLength: 40,
  },
)

test('a refused call and a look leave every byte in Redis as it was (invariant 2)', async () => {
  const namespace = newNamespace()
  let refusals = 0
  await fc.assert(
    fc.asyncProperty(moves, async (steps) => {
      await forget(namespace)
      const { clock, redis } = bothStores(namespace)
      const requestOf = requestsUnder(ALL, namespace.name)
      for (const { ms, tokens, peek } of steps) {
        clock.advance(ms)
        const before = await snapshot(namespace)
        const decision = peek ? await redis.peek(requestOf(tokens)) : (await redis.admit(requestOf(tokens))).decision
        if (!peek && decision.outcome === 'run') continue
        expect(await snapshot(namespace)).toEqual(before)
        refusals++
      }
    }),
    { numRuns: runs(40) },
  )
  expect(refusals).toBeGreaterThan(40)
})

const held = fc.double({ min: 0, max: 12_000, noNaN: true })

test.each(KINDS.map((kind) => [named(kind), kind] as const))(
  '%s: a reservation that is given back leaves all that follows as it was (invariant 3)',
  async (_, kind) => {
    await fc.assert(
      fc.asyncProperty(moves, held, async (steps, heldMs) => {
        const spec: LimitSpec = { tokens: 100, per: '10s', ...kind, ...(kind.burst === undefined ? {} : { burst: 150 }) }
        const requestOf = requestsUnder([spec])
        const clock = new GivenClock(T0)
        const [ghostly, plain] = [new MemoryStore(() => clock.nowMs), new MemoryStore(() => clock.nowMs)]
        for (const [index, { ms, tokens, peek: phantom }] of steps.entries()) {
          clock.advance(ms)
          const [one, other] = [ghostly.admit(requestOf(tokens)).decision, plain.admit(requestOf(tokens)).decision]
          expect(one.outcome, `call ${index}`).toBe(other.outcome)
          if (one.outcome === 'reject') expect(one.retryAfterMs).toBeCloseTo((other as typeof one).retryAfterMs as number, 2)
          expect(one.usage[0]?.used).toBeCloseTo(other.usage[0]?.used as number, 6)
          if (!phantom) continue
          const ghost = ghostly.admit(requestOf(20))
          clock.advance(index % 2 === 0 ? heldMs : 0)
          expect(ghostly.release(ghost.request)).toBe(ghost.decision.outcome === 'run')
          expect(ghostly.release(ghost.request), 'a second time').toBe(false)
        }
      }),
      { numRuns: runs(40) },
    )
  },
)

/** Redis sets the end of a key from its clock at the begin of a script, in whole ms: a busy machine reads PTTL some ms later. */
const NOISE_MS = 10

/** Keys of a kind (meters, logs, leases) with the ms until they end. */
async function lifetimes(namespace: Namespace, kind: 'm' | 'h' | 's'): Promise<Map<string, number>> {
  const keys = (await namespace.allKeys()).filter((key) => key.startsWith(`${namespace.keys.prefix}/${kind}/`))
  return new Map(await Promise.all(keys.map(async (key) => [key, await namespace.redis.pttl(key)] as const)))
}

test('every key has an end, and that of a meter is no later than its state is empty (invariant 9)', async () => {
  const namespace = newNamespace()
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ tokens: fc.double({ min: 0.1, max: 70, noNaN: true }), over: fc.constantFrom(0, 1, 1, 4) }), { minLength: 2, maxLength: 12 }),
      async (calls) => {
        await forget(namespace)
        const store = new RedisStore(new ScriptClient(namespace.redis, resolverOf(namespace, []), redisClock), namespace.redis, redisClock)
        const requestOf = requestsUnder(ALL, namespace.name)
        for (const { tokens, over } of calls) {
          const { request, decision } = await store.admit(requestOf(tokens))
          if (decision.outcome === 'run' && over !== 1)
            await store.settle(request, { ...AS_ESTIMATED, tokens: tokens * over, usd: (tokens * over) / 100 }, 'end')
          const { usage } = await store.peek(requestOf(0))
          const resets = new Map(usage.map(({ limit, resetMs }) => [limit, resetMs]))
          const lastMs = Math.max(...[...resets].filter(([limit]) => limit !== 'concurrency').map(([, resetMs]) => resetMs))
          for (const [key, ms] of await lifetimes(namespace, 'm')) expect(ms, key).toBeLessThanOrEqual(Math.ceil(lastMs) + NOISE_MS)
          // The set of a log is kept for a window after each change, so that what leaves it can be read: see `tidy` of lua/lib/algorithms/sliding-log.lua.
          const logMs = Math.max(resets.get('log') ?? 0, LOG_WINDOW_MS)
          for (const [key, ms] of await lifetimes(namespace, 'h')) expect(ms, key).toBeLessThanOrEqual(Math.ceil(logMs) + NOISE_MS)
          for (const [key, ms] of await lifetimes(namespace, 's')) expect(ms, key).toBeLessThanOrEqual(30_000)
        }
        for (const key of await namespace.allKeys()) expect(await namespace.redis.pttl(key), key).not.toBe(-1)
      },
    ),
    { numRuns: runs(15) },
  )
})

test.each(KINDS.map((kind) => [named(kind), kind] as const))(
  '%s refuses a cost above its capacity as too big, and writes nothing (invariant 11)',
  async (_, kind) => {
    const namespace = newNamespace()
    await fc.assert(
      fc.asyncProperty(amounts, fc.double({ min: 1.000001, max: 1e9, noNaN: true }), async (amount, times) => {
        const spec: LimitSpec = { tokens: amount, per: '10s', ...kind, ...(kind.burst === undefined ? {} : { burst: amount * kind.burst }) }
        const requestOf = requestsUnder(
          [
            { tokens: 1e12, per: 'second' },
            { ...spec, name: 'tight' },
          ],
          namespace.name,
        )
        const { memory, redis } = bothStores(namespace)
        const tokens = amount * (kind.burst ?? 1) * times
        for (const store of [memory, redis] as Store[]) {
          expect((await store.admit(requestOf(tokens))).decision).toMatchObject({
            outcome: 'reject',
            reason: 'too_big',
            retryAfterMs: null,
            binding: { limit: 'tight' },
          })
        }
        expect(await namespace.allKeys()).toEqual([])
      }),
      { numRuns: runs(12) },
    )
  },
)

test.each(KINDS.map((kind) => [named(kind), kind] as const))(
  '%s: however calls overrun, in the long run no more is used than the limit and one window allow',
  async (_, kind) => {
    const calls = fc.array(
      fc.record({
        estimate: fc.double({ min: 0.1, max: 60, noNaN: true }),
        times: fc.constantFrom(0, 0.5, 1, 1.7, 3, 6),
        wait: fc.constantFrom(-1, -1, -1, 0, 0.05),
        later: fc.nat({ max: 5 }),
      }),
      { minLength: 40, maxLength: 120 },
    )
    await fc.assert(
      fc.asyncProperty(calls, async (given) => {
        const spec: LimitSpec = { tokens: 100, per: '10s', ...kind, ...(kind.burst === undefined ? {} : { burst: 150 }) }
        const windowMs = periodMs(spec.per as string) as number
        const clock = new GivenClock(T0)
        const store = new MemoryStore(() => clock.nowMs)
        const requestOf = requestsUnder([spec])
        const running: { request: AdmissionRequest; estimate: number; actual: number; after: number }[] = []
        let used = 0
        let retryAfterMs = 0
        for (const [index, { estimate, times, wait, later }] of given.entries()) {
          clock.advance(wait < 0 ? retryAfterMs : wait * windowMs)
          const { request, decision } = store.admit(requestOf(estimate))
          retryAfterMs = decision.outcome === 'reject' ? (decision.retryAfterMs ?? 0) : 0
          if (decision.outcome === 'run') {
            used += estimate
            // A day may have 23 hours.
            const passed = (clock.nowMs - T0) / windowMs + (kind.timezone === undefined ? 0 : 1 / 24)
            const allowed = 100 * (Math.max(1, kind.burst ?? 1) + 1 + passed)
            expect(used, `call ${index}`).toBeLessThanOrEqual(allowed + 1e-3)
            running.push({ request, estimate, actual: estimate * times, after: index + later })
          }
          for (const call of running.splice(0)) {
            if (call.after > index) {
              running.push(call)
              continue
            }
            // A day after its charge a call cannot be settled any more.
            if (store.settle(call.request, { ...AS_ESTIMATED, tokens: call.actual }, 'end')) used += call.actual - call.estimate
          }
        }
      }),
      { numRuns: runs(60) },
    )
  },
)

test.each(['sliding_window', 'sliding_log'] as const)('%s: a second debt counts together with everything charged beside it', async (algorithm) => {
  const namespace = newNamespace()
  const { clock, memory, redis } = bothStores(namespace)
  const requestOf = requestsUnder([{ tokens: 100, per: '33s', algorithm }], namespace.name)
  for (const store of [memory, redis] as Store[]) {
    clock.nowMs = T0
    const first = await store.admit(requestOf(100))
    clock.nowMs = T0 + 5_000
    await store.settle(first.request, { ...AS_ESTIMATED, tokens: 110 }, 'end')
    // The debt of 10 is dated one window later: just before it, 90 fit beside it, and overrun.
    clock.nowMs = T0 + 34_500
    const second = await store.admit(requestOf(90))
    expect(second.decision.outcome).toBe('run')
    await store.settle(second.request, { ...AS_ESTIMATED, tokens: 180 }, 'end')
    // The debt of 90 is in another window than the 90 that were admitted.
    clock.nowMs = T0 + 73_000
    expect((await store.peek(requestOf(0))).usage[0]?.used).toBe(90)
  }
})
