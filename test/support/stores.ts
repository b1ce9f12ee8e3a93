import { expect } from 'vitest'
import type { RejectDecision, RuleSpec, RunDecision, Store } from '../../src/index.js'
import { GivenClock } from '../../src/model/time.js'
import { MemoryStore } from '../../src/store/memory/memory-store.js'
import { RedisStore } from '../../src/store/redis/redis-store.js'
import { ScriptClient } from '../../src/store/redis/script-client.js'
import type { Namespace } from './namespace.js'
import { resolverOf, T0 } from './script-client.js'

/** A store on real Redis that goes by the given clock. */
export function redisStore(namespace: Namespace, clock: GivenClock, rules: readonly RuleSpec[] = []): RedisStore {
  return new RedisStore(new ScriptClient(namespace.redis, resolverOf(namespace, rules), clock), namespace.redis, clock)
}

/** A store in memory and one on real Redis, on one clock that stands still until a test moves it. */
export function bothStores(namespace: Namespace, startMs = T0): { clock: GivenClock; memory: MemoryStore; redis: Store } {
  const clock = new GivenClock(startMs)
  return { clock, memory: new MemoryStore(() => clock.nowMs), redis: redisStore(namespace, clock) }
}

const CLOSE_MS = 1e-2
const CLOSE = 1e-6

function close(one: number, other: number, within: number, what: string): void {
  if (one === other) return
  expect(Math.abs(one - other), `${what}: ${one} and ${other}`).toBeLessThanOrEqual(within)
}

/** Two stores must decide alike on the same call: outcome, reason, binding, and every figure. */
export function expectSame(one: RunDecision | RejectDecision, other: RunDecision | RejectDecision): void {
  expect(outcomeOf(one)).toEqual(outcomeOf(other))
  if (one.outcome === 'reject' && other.outcome === 'reject' && one.retryAfterMs !== null) {
    close(one.retryAfterMs, other.retryAfterMs ?? Number.NaN, CLOSE_MS, 'retryAfterMs')
  }
  for (const [index, usage] of one.usage.entries()) {
    const twin = other.usage[index]
    const name = `${usage.rule}/${usage.limit}/${usage.scopeValue}`
    expect(`${twin?.rule}/${twin?.limit}/${twin?.scopeValue}`).toBe(name)
    for (const field of ['capacity', 'used', 'remaining', 'claimed'] as const) close(usage[field], twin?.[field] ?? Number.NaN, CLOSE, `${field} of ${name}`)
    close(usage.resetMs, twin?.resetMs ?? Number.NaN, CLOSE_MS, `resetMs of ${name}`)
  }
  expect(one.usage.length).toBe(other.usage.length)
}

function outcomeOf(decision: RunDecision | RejectDecision): object {
  return decision.outcome === 'run'
    ? { outcome: 'run' }
    : { outcome: 'reject', reason: decision.reason, binding: decision.binding, waitKnown: decision.retryAfterMs !== null }
}
