import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AdmissionRequest } from '../../src/admission/request.js'
import type { LimitSpec, RuleSpec, Store } from '../../src/index.js'
import { AS_ESTIMATED, NOTHING } from '../../src/model/cost.js'
import { newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { resolverOf } from '../support/script-client.js'
import { bothStores } from '../support/stores.js'

const SECOND = 1000
/** The rates that the rule has in turn, per second. */
const RATES = [10, 1, 40, 0.01] as const
const KINDS = {
  'token bucket': (perSecond: number): LimitSpec => ({ requests: perSecond * 100, per: '100s', burst: 5 }),
  'token bucket of tokens': (perSecond: number): LimitSpec => ({ tokens: perSecond * 100, per: '100s', burst: 5 }),
  'leaky bucket': (perSecond: number): LimitSpec => ({ requests: perSecond * 100, per: '100s', algorithm: 'leaky_bucket' }),
} as const
const CALL = { agent: 'a', cost: { tokens: 1 } }

/** The agent's own bucket: refilled by each rate for as long as that was in force. */
class AgentBucket {
  missing = 0

  constructor(private readonly mayLack: number) {}

  pass(ms: number, perSecond: number): void {
    this.missing = Math.max(0, this.missing - (ms * perSecond) / SECOND)
  }

  /** By how much a start exceeds it. */
  start(): number {
    this.missing += 1
    return this.missing - this.mayLack
  }
}

function requestsUnder(namespace: ReturnType<typeof newNamespace>, kind: keyof typeof KINDS): AdmissionRequest[] {
  return RATES.map((perSecond) => {
    const rules: RuleSpec[] = [{ name: 'r', scope: 'agent', limits: [{ name: 'l', ...KINDS[kind](perSecond) }] }]
    return { id: '', token: '', call: {}, ...resolverOf(namespace, rules).resolve(CALL, { ...NOTHING, requests: 1, tokens: 1 }) }
  })
}

const stores = (namespace: ReturnType<typeof newNamespace>) => {
  const { clock, memory, redis } = bothStores(namespace)
  return { clock, each: { memory, redis } as Readonly<Record<'memory' | 'redis', Store>> }
}

const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 700 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('ask' as const), times: fc.integer({ min: 1, max: 7 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('change' as const), to: fc.nat(RATES.length - 1) }) },
)

describe.each(Object.keys(KINDS) as (keyof typeof KINDS)[])('a %s', (kind) => {
  test.each(['memory', 'redis'] as const)('whose rate changes is never over (invariant 1), %s', async (name) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 40 }), async (steps) => {
        const namespace = newNamespace()
        const { clock, each } = stores(namespace)
        const requests = requestsUnder(namespace, kind)
        const agent = new AgentBucket(kind === 'leaky bucket' ? 1 : 5)
        let now = 0
        for (const one of steps) {
          if (one.do === 'pass') {
            clock.nowMs += one.ms
            agent.pass(one.ms, RATES[now] as number)
          } else if (one.do === 'change') now = one.to
          else
            for (let left = one.times; left > 0; left--) {
              const { decision } = await each[name].admit(requests[now] as AdmissionRequest)
              if (decision.outcome === 'run') expect(agent.start()).toBeLessThanOrEqual(0.002)
            }
        }
      }),
      { numRuns: runs(30) },
    )
  })

  test.each(['memory', 'redis'] as const)('that was raised is refilled by the new rate from the first look on, also one that is refused, %s', async (name) => {
    const namespace = newNamespace()
    const { clock, each } = stores(namespace)
    const [, , fast, slow] = requestsUnder(namespace, kind) as [AdmissionRequest, AdmissionRequest, AdmissionRequest, AdmissionRequest]
    const store = each[name]
    const takes = async (request: AdmissionRequest) => (await store.admit(request)).decision.outcome === 'run'
    while (await takes(slow));
    clock.nowMs += 60
    expect(await takes(fast)).toBe(false)
    clock.nowMs += 30
    expect(await takes(fast)).toBe(true)
  })

  test.each(['memory', 'redis'] as const)('keeps the new rate when a call ends that was charged under the old one, %s', async (name) => {
    const namespace = newNamespace()
    const { clock, each } = stores(namespace)
    const [, , fast, slow] = requestsUnder(namespace, kind) as [AdmissionRequest, AdmissionRequest, AdmissionRequest, AdmissionRequest]
    const store = each[name]
    const { request: first } = await store.admit(slow)
    const takes = async () => (await store.admit(fast)).decision.outcome === 'run'
    while (await takes());
    await store.settle(first, kind === 'token bucket of tokens' ? { ...AS_ESTIMATED, tokens: 2 } : { ...NOTHING, requests: 2 }, 'end')
    clock.nowMs += kind === 'leaky bucket' ? 80 : 50
    expect(await takes()).toBe(true)
  })
})
