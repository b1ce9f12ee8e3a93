import assert from 'node:assert/strict'
import type { AdmissionRequest } from '../src/admission/request.js'
import type { LimitSpec } from '../src/limits/limit.js'
import { AS_ESTIMATED, type Costs } from '../src/model/cost.js'
import type { RejectDecision, Usage } from '../src/model/decision.js'
import type { GivenClock } from '../src/model/time.js'
import type { RuleSpec } from '../src/policy/rule.js'
import type { Admission, Store } from '../src/store/store.js'
import { requestFor } from './request.js'

/** The store under test, with the clock that it goes by. */
export interface Subject {
  readonly store: Store
  readonly clock: GivenClock
  readonly namespace?: string | undefined
}

/** One property of every store. */
export interface Case {
  readonly name: string
  check(subject: Subject): Promise<void>
}

/** Stores answer times in whole microseconds, rounded up, and one more. */
const ROUNDING_MS = 0.0021
/** A call that comes this much before its `retryAfterMs` must still be refused. */
const EARLY_MS = 0.01

export function assertClose(actual: number | null | undefined, expected: number, what: string, within = 1e-6): void {
  assert.ok(typeof actual === 'number' && (actual === expected || Math.abs(actual - expected) <= within), `${what}: ${actual}, not ${expected}`)
}

/** One organisation under one rule: sends its calls to a store and asserts the answers. */
export class Account {
  private rules: readonly RuleSpec[]

  constructor(
    private readonly subject: Subject,
    limits: RuleSpec['limits'],
    private readonly org = 'o',
  ) {
    this.rules = [{ name: 'rule', scope: 'org', limits }]
  }

  /** Other limits for the same organisation, from now on. */
  limit(...limits: LimitSpec[]): void {
    this.rules = [{ name: 'rule', scope: 'org', limits }]
  }

  request(costs: Partial<Costs>, id?: string, forGood = false): AdmissionRequest {
    const call = { agent: 'agent', org: this.org, ...(id === undefined ? {} : { id }) }
    return requestFor(this.rules, call, costs, { namespace: this.subject.namespace ?? 'contract', forGood })
  }

  async admit(costs: Partial<Costs>, id?: string): Promise<Admission> {
    return this.subject.store.admit(this.request(costs, id))
  }

  /** Must be admitted. @returns the request by which the call is settled or released */
  async passes(costs: Partial<Costs>, id?: string): Promise<AdmissionRequest> {
    const { request, decision } = await this.admit(costs, id)
    assert.equal(decision.outcome, 'run', `${JSON.stringify(costs)} passes: ${JSON.stringify(decision)}`)
    assert.equal(decision.atMs, this.subject.clock.nowMs)
    return request
  }

  async refused(costs: Partial<Costs>): Promise<RejectDecision> {
    const { decision } = await this.admit(costs)
    if (decision.outcome !== 'reject') assert.fail(`${JSON.stringify(costs)} is refused: ${JSON.stringify(decision)}`)
    return decision
  }

  /** Must be refused, must be refused again just before its `retryAfterMs`, and must pass at it. */
  async passesAfter(costs: Partial<Costs>, expectedMs?: number): Promise<AdmissionRequest> {
    const { clock } = this.subject
    const { reason, retryAfterMs } = await this.refused(costs)
    assert.equal(reason, 'limited')
    assert.ok(retryAfterMs !== null && retryAfterMs > EARLY_MS, `a time to wait: ${retryAfterMs}`)
    if (expectedMs !== undefined) assertClose(retryAfterMs, expectedMs, 'retryAfterMs', ROUNDING_MS)
    const fromMs = clock.nowMs
    clock.nowMs = fromMs + retryAfterMs - EARLY_MS
    assert.equal((await this.refused(costs)).reason, 'limited', 'just before retryAfterMs')
    clock.nowMs = fromMs + retryAfterMs
    return this.passes(costs)
  }

  /** The usage of the limits, by a request that costs nothing. */
  async usage(): Promise<readonly Usage[]> {
    return (await this.subject.store.peek(this.request({}))).usage
  }

  async used(n = 0): Promise<number> {
    return (await this.usage())[n]?.used ?? Number.NaN
  }

  /** @param tokens undefined: as estimated */
  async settles(request: AdmissionRequest, tokens: number | undefined, how: 'end' | 'part' = 'end'): Promise<boolean> {
    return this.subject.store.settle(request, { ...AS_ESTIMATED, tokens }, how)
  }

  async releases(request: AdmissionRequest): Promise<boolean> {
    return this.subject.store.release(request)
  }

  async records(costs: Partial<Costs>, id?: string): Promise<AdmissionRequest> {
    const { request, decision } = await this.subject.store.record(this.request(costs, id, id === undefined))
    assert.equal(decision.outcome, 'run')
    return request
  }
}

/** Both accounts must have the same usage of the same limits. */
export async function assertAlike(one: Account, other: Account, what: string): Promise<void> {
  const [mine, others] = [await one.usage(), await other.usage()]
  assert.equal(mine.length, others.length)
  for (const [n, { used, remaining, resetMs, limit }] of mine.entries()) {
    assertClose(used, others[n]?.used ?? Number.NaN, `${what}: used of ${limit}`)
    assertClose(remaining, others[n]?.remaining ?? Number.NaN, `${what}: remaining of ${limit}`)
    assertClose(resetMs, others[n]?.resetMs ?? Number.NaN, `${what}: resetMs of ${limit}`, ROUNDING_MS)
  }
}
