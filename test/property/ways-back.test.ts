import { expect, test } from 'vitest'
import type { AdmissionRequest } from '../../src/admission/request.js'
import type { LimitSpec, RuleSpec, Store } from '../../src/index.js'
import { AS_ESTIMATED, NOTHING } from '../../src/model/cost.js'
import { GivenClock } from '../../src/model/time.js'
import type { UpstreamReport } from '../../src/model/upstream.js'
import { mergeUsage } from '../../src/outage/journal.js'
import { LocalAdmission } from '../../src/outage/local-admission.js'
import { LedgerNames } from '../../src/store/ledger-names.js'
import { newNamespace } from '../support/namespace.js'
import { resolverOf, T0 } from '../support/script-client.js'
import { bothStores, redisStore } from '../support/stores.js'

// A bucket of 1,000 tokens that is full again after a second: what a call gives back later than that has come back by the clock.
const ACCOUNT: RuleSpec = { name: 'account', scope: 'agent', limits: [{ name: 't', tokens: 1000, per: 'second' }] }
const CALL = { agent: 'llm' }
const REFUSED: UpstreamReport = { kind: 'refused', retryAfterMs: 1000, reduceFactor: 0.5, name: CALL, observed: null }

function withLimit(limit: LimitSpec): RuleSpec[] {
  return [{ ...ACCOUNT, limits: [limit] }]
}

/** Calls under changing rules, at one store. */
class Caller {
  constructor(
    private readonly namespace: ReturnType<typeof newNamespace>,
    private readonly store: Store,
    private rules: readonly RuleSpec[] = [ACCOUNT],
  ) {}

  under(rules: readonly RuleSpec[]): void {
    this.rules = rules
  }

  request(tokens: number): AdmissionRequest {
    return { id: '', token: '', call: {}, ...resolverOf(this.namespace, this.rules).resolve(CALL, { ...NOTHING, requests: 1, tokens }) }
  }

  async start(tokens: number): Promise<AdmissionRequest> {
    const { request, decision } = await this.store.admit(this.request(tokens))
    expect(decision.outcome).toBe('run')
    return request
  }

  /** Settles under the rules of now, as `gate.settle` does by an id. */
  async settle(request: AdmissionRequest, tokens: number): Promise<void> {
    const { meters, counted } = this.request(0)
    expect(await this.store.settle({ ...request, meters, counted }, { ...AS_ESTIMATED, tokens }, 'end')).toBe(true)
  }

  async used(): Promise<number | undefined> {
    return (await this.store.peek(this.request(0))).usage[0]?.used
  }

  async refuses(tokens: number): Promise<void> {
    expect((await this.store.admit(this.request(tokens))).decision.outcome).toBe('reject')
  }
}

/** Runs a check on both stores. */
async function onBoth(check: (caller: Caller, clock: GivenClock, store: Store) => Promise<void>): Promise<void> {
  const namespace = newNamespace()
  const { clock, memory, redis } = bothStores(namespace)
  for (const store of [memory, redis] as Store[]) {
    clock.nowMs = T0
    await check(new Caller(namespace, store), clock, store)
  }
}

test('a call that its agent refuses late gives back nothing that the clock has given back', async () => {
  await onBoth(async (caller, clock, store) => {
    const first = await caller.start(1000)
    clock.advance(1300)
    await caller.start(1000)
    await store.reportUpstream(first, REFUSED)
    expect(await caller.used()).toBe(1000)
  })
})

test('a limit that was lowered meanwhile gets back no more than it has counted ever since', async () => {
  await onBoth(async (caller, clock) => {
    const first = await caller.start(1000)
    clock.advance(10)
    caller.under(withLimit({ name: 't', tokens: 100, per: 'second' }))
    clock.advance(600)
    await caller.start(50)
    clock.advance(10)
    await caller.settle(first, 0)
    // 39 of the old limit are left, and of them 9; what has started since counts in full.
    expect(await caller.used()).toBeGreaterThanOrEqual(49 - 1e-6)
    clock.advance(500)
    await caller.start(100)
    await caller.refuses(5)
  })
})

test('a limit that was added meanwhile gets nothing back of a call that it never charged', async () => {
  await onBoth(async (caller, clock) => {
    caller.under([{ name: 'other', scope: 'agent', limits: [{ tokens: 1e6, per: 'second' }] }])
    const first = await caller.start(1000)
    clock.advance(10)
    caller.under([ACCOUNT])
    await caller.start(900)
    clock.advance(10)
    await caller.start(100)
    await caller.settle(first, 0)
    expect(await caller.used()).toBeCloseTo(990, 6)
  })
})

test('a call that went on through an outage, and was charged when Redis came back, gives back from then on', async () => {
  const namespace = newNamespace()
  const clock = new GivenClock(T0)
  const store = redisStore(namespace, clock)
  const caller = new Caller(namespace, store)
  const local = new LocalAdmission('local', 0, new LedgerNames(), () => clock.nowMs)
  local.begin({ of: 1, rank: 0 })
  clock.advance(2000)
  const { request, decision } = local.admit(caller.request(1000))
  expect(decision.outcome).toBe('run')
  await mergeUsage(namespace.redis, namespace.keys, clock, 'merged', local.journal.report())
  expect(await caller.used()).toBe(1000)
  clock.advance(1300)
  await caller.start(1000)
  expect(await store.settle(request, { ...AS_ESTIMATED, tokens: 0 }, 'end')).toBe(true)
  expect(await caller.used()).toBe(1000)
  await caller.refuses(10)
})

test('in an outage, too, a late settlement gives back nothing that the clock has given back, and reports what is left', () => {
  const clock = new GivenClock(T0)
  const local = new LocalAdmission('local', 0, new LedgerNames(), () => clock.nowMs)
  const caller = new Caller(newNamespace(), redisStore(newNamespace(), clock))
  local.begin({ of: 1, rank: 0 })
  clock.advance(2000)
  const first = local.admit(caller.request(1000))
  clock.advance(1300)
  expect([first.decision.outcome, local.admit(caller.request(1000)).decision.outcome]).toEqual(['run', 'run'])
  expect(local.settle(first.request, { ...AS_ESTIMATED, tokens: 0 }, 'end')).toBe(true)
  expect(local.admit(caller.request(10)).decision.outcome).toBe('reject')
})

test('while an agent recovers its cut limits get back no more than they have counted ever since', async () => {
  const namespace = newNamespace()
  const clock = new GivenClock(T0)
  const store = redisStore(namespace, clock)
  const caller = new Caller(namespace, store)
  await store.reportUpstream(await caller.start(10), REFUSED)
  clock.advance(1001)
  await caller.settle(await caller.start(10), 10)
  // Half of the limit from now on, and nothing of it is left: 500 come in a second.
  clock.advance(1001)
  const first = await caller.start(490)
  clock.advance(1001)
  const second = await caller.start(490)
  await caller.settle(first, 0)
  await caller.refuses(40)
  clock.advance(500)
  await caller.settle(second, 0)
  await caller.start(490)
  await caller.refuses(40)
})
