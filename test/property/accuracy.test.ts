import { expect, test } from 'vitest'
import type { LimitSpec, Store } from '../../src/index.js'
import { NAMED_ALGORITHMS, type NamedAlgorithm } from '../../src/limits/algorithms.js'
import { GivenClock, HOUR, MINUTE, SECOND } from '../../src/model/time.js'
import { MemoryStore } from '../../src/store/memory/memory-store.js'
import { requestFor } from '../../testing/request.js'
import { newNamespace } from '../support/namespace.js'
import { evenly, inBursts, offer } from '../support/offered.js'
import { T0 } from '../support/script-client.js'
import { bothStores } from '../support/stores.js'

/** The least share of the limit that must be used under load: a sliding window leaves a thirty-third idle. */
const LEAST = 0.95

/** How many calls an algorithm admits in some windows: a bucket admits its burst besides, once. */
function allowedBy(algorithm: NamedAlgorithm, limit: number, windows: number): number {
  const once = algorithm === 'token_bucket' ? limit : algorithm === 'leaky_bucket' ? 1 : 0
  return limit * windows + once
}

function requestUnder(spec: LimitSpec, namespace = 'contract') {
  return requestFor([{ name: 'r', scope: 'agent', limits: [spec] }], { agent: 'a' }, { requests: 1 }, { namespace, forGood: true })
}

const PERIODS = { second: SECOND, minute: MINUTE, hour: HOUR } as const

async function measure(
  store: Store,
  clock: GivenClock,
  spec: LimitSpec & { algorithm: NamedAlgorithm },
  windowMs: number,
  load: number,
  windows: number,
  request = requestUnder(spec),
) {
  const limit = spec.requests as number
  const calls = Math.round(limit * load * windows)
  const allowed = Math.min(calls, allowedBy(spec.algorithm, limit, windows))
  for (const [shape, offered] of [
    ['evenly', evenly(calls, windows * windowMs)],
    ['in bursts', inBursts(calls, windows, windows * windowMs)],
  ] as const) {
    await store.reset(request)
    // A border of all windows, far enough ahead that no window of the previous shape reaches it.
    clock.nowMs = Math.ceil((clock.nowMs + 3 * windowMs) / HOUR) * HOUR
    const admitted = await offer(store, clock, request, offered)
    const what = `${spec.algorithm}: ${limit} per ${spec.per}, offered ${load} times, ${shape}: ${admitted} of ${allowed}`
    expect(admitted, what).toBeLessThanOrEqual(allowed)
    expect(admitted, what).toBeGreaterThanOrEqual(Math.floor(LEAST * allowed))
  }
}

test.each(NAMED_ALGORITHMS)('%s admits as many calls as it allows and never more, at any limit, window and load (store in memory)', async (algorithm) => {
  for (const requests of [1, 7, 100, 1000]) {
    for (const [per, windowMs] of Object.entries(PERIODS)) {
      for (const load of [0.9, 1, 10]) {
        const clock = new GivenClock(T0)
        await measure(new MemoryStore(() => clock.nowMs), clock, { requests, per, algorithm }, windowMs, load, 50)
      }
    }
  }
})

test.each(NAMED_ALGORITHMS)('%s admits as many calls as it allows and never more (store in Redis)', async (algorithm) => {
  const namespace = newNamespace()
  const { clock, redis } = bothStores(namespace)
  for (const [requests, per, load] of [
    [1, 'second', 10],
    [7, 'minute', 1],
    [30, 'hour', 0.9],
    [30, 'minute', 10],
  ] as const) {
    const spec = { requests, per, algorithm, name: `${per}-${requests}` }
    await measure(redis, clock, spec, PERIODS[per], load, 8, requestUnder(spec, namespace.name))
  }
})

const TEN: LimitSpec = { name: 'ten', requests: 10, per: 'minute' }

/** @returns how many calls pass at once */
async function atOnce(store: Store, spec: LimitSpec, namespace: string, most = 100): Promise<number> {
  const request = requestUnder(spec, namespace)
  let passed = 0
  while (passed < most && (await store.admit(request)).decision.outcome === 'run') passed++
  return passed
}

/** Runs a check on both stores for every algorithm, each time with an unused limit. */
async function onBoth(
  check: (of: { store: Store; clock: GivenClock; pass(spec?: LimitSpec): Promise<number>; full: number; spec: LimitSpec }) => Promise<void>,
) {
  for (const algorithm of NAMED_ALGORITHMS) {
    const namespace = newNamespace()
    const { memory, redis, clock } = bothStores(namespace)
    for (const store of [memory, redis] as Store[]) {
      clock.nowMs = T0
      const spec = { ...TEN, algorithm }
      await check({ store, clock, spec, full: algorithm === 'leaky_bucket' ? 1 : 10, pass: (other = spec) => atOnce(store, other, namespace.name) })
    }
  }
}

test('after any idle time no more than one limit passes at once, however far the clock jumps ahead', async () => {
  await onBoth(async ({ clock, pass, full }) => {
    expect(await pass()).toBe(full)
    for (const ms of [HOUR, 365 * 24 * HOUR, HOUR + 0.5]) {
      clock.advance(ms)
      expect(await pass()).toBe(full)
      expect(await pass()).toBe(0)
    }
  })
})

test('a clock that is set back by 30 s opens no window twice, and delays calls by no more than 30 s', async () => {
  await onBoth(async ({ clock, pass, full }) => {
    expect(await pass()).toBe(full)
    clock.advance(-30_000)
    expect(await pass()).toBe(0)
    clock.advance(29_000)
    expect(await pass()).toBe(0)
    clock.advance(1000 + 62_000)
    expect(await pass()).toBe(full)
  })
})

test('a clock that is set back by an hour is believed: one window later the whole limit is free again', async () => {
  await onBoth(async ({ clock, pass, full }) => {
    expect(await pass()).toBe(full)
    clock.advance(-HOUR)
    expect(await pass()).toBe(0)
    clock.advance(62_000)
    expect(await pass()).toBe(full)
    clock.advance(62_000)
    expect(await pass()).toBe(full)
  })
})

test('a limit raised in mid-window admits the difference at once; a lowered one admits nothing until its usage is below it', async () => {
  await onBoth(async ({ clock, spec, pass, full }) => {
    if (full === 1) return
    expect(await pass()).toBe(10)
    clock.advance(500)
    // Of a bucket of ten, far less than a call has been refilled by now.
    expect(await pass({ ...spec, requests: 25 })).toBe(15)
    clock.advance(500)
    expect(await pass({ ...spec, requests: 5 })).toBe(0)
    clock.advance(62_000)
    expect(await pass({ ...spec, requests: 5 })).toBe(5)
  })
})
