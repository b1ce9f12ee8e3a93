import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { CallRequest } from '../../src/admission/request.js'
import type { UpstreamReport } from '../../src/model/upstream.js'
import type { ScriptClient } from '../../src/store/redis/script-client.js'
import { Fleet } from '../support/fleet.js'
import { ask, givenGate } from '../support/gate.js'
import { forget } from '../support/keys.js'
import { newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'

const RULES = [{ name: 'account', scope: 'agent', limits: [{ requests: 100, per: 'second', burst: 10 }] }]
const BLOCKED_MS = 2000

async function refuse(gate: ScriptClient, request: CallRequest): Promise<void> {
  const said: UpstreamReport = { kind: 'refused', retryAfterMs: BLOCKED_MS, reduceFactor: 0.5, name: request.call, observed: null }
  await gate.reportUpstream(request, said)
}

test('of those in line at a block one goes when it ends, the others after it, none too many (invariants 1, 5, 6)', async () => {
  const namespace = newNamespace()
  const cases = fc.record({ calls: fc.integer({ min: 2, max: 80 }), runMs: fc.integer({ min: 5, max: 300 }), latencyMs: fc.integer({ min: 1, max: 40 }) })
  await fc.assert(
    fc.asyncProperty(cases, async ({ calls, runMs, latencyMs }) => {
      await forget(namespace)
      const { gate, clock } = givenGate(namespace, RULES)
      const first = ask(gate, 'first', { agent: 'llm' })
      await gate.start([first], [], true)
      await refuse(gate, first)
      const blockedUntilMs = clock.nowMs + BLOCKED_MS
      const fleet = new Fleet({ namespace, gate, clock, latencyMs: () => latencyMs, runMs })
      await fleet.enqueue(Array.from({ length: calls }, (_, index) => ({ id: `c${index}`, call: { agent: 'llm' } })))
      await fleet.pass(BLOCKED_MS + runMs + 200 + calls * 25)
      const [canary, ...others] = fleet.starts.map(({ atMs }) => atMs)
      expect(canary).toBeGreaterThanOrEqual(blockedUntilMs)
      expect(canary).toBeLessThanOrEqual(blockedUntilMs + latencyMs + 20)
      expect(others, 'all of them, at half the rate, soon after the canary').toHaveLength(calls - 1)
      for (const atMs of others) expect(atMs).toBeGreaterThanOrEqual((canary as number) + runMs)
      for (const [index, atMs] of others.entries()) {
        const lengthMs = atMs - ((canary as number) + runMs)
        expect(index + 1).toBeLessThanOrEqual((lengthMs / 1000) * 50 + 1e-6)
      }
      expect(fleet.pickups).toBeLessThanOrEqual(calls + 3)
    }),
    { numRuns: runs(12) },
  )
})

test('calls that were woken before a block stand in line again, and one of them is the canary', async () => {
  const namespace = newNamespace()
  const { gate, clock } = givenGate(namespace, RULES)
  const first = ask(gate, 'first', { agent: 'llm' })
  await gate.start([first], [], true)
  const fleet = new Fleet({ namespace, gate, clock, latencyMs: () => 20, runMs: 100 })
  expect(await fleet.enqueue(Array.from({ length: 5 }, (_, index) => ({ id: `c${index}`, call: { agent: 'llm' } })))).toEqual(Array(5).fill('run'))
  await refuse(gate, first)
  const blockedUntilMs = clock.nowMs + BLOCKED_MS
  await fleet.pass(BLOCKED_MS + 1000)
  expect(fleet.starts).toHaveLength(5)
  const [canary, ...others] = fleet.starts.map(({ atMs }) => atMs)
  expect(canary).toBeGreaterThanOrEqual(blockedUntilMs)
  for (const atMs of others) expect(atMs).toBeGreaterThanOrEqual((canary as number) + 100)
})

test("one model's 429 leaves another model alone, in line and at its rate", async () => {
  const namespace = newNamespace()
  const { gate, clock } = givenGate(namespace, RULES)
  const first = ask(gate, 'first', { agent: 'llm', model: 'a' })
  await gate.start([first], [], true)
  await refuse(gate, first)
  const fleet = new Fleet({ namespace, gate, clock, latencyMs: () => 5 })
  await fleet.enqueue(Array.from({ length: 100 }, (_, index) => ({ id: `c${index}`, call: { agent: 'llm', model: 'b' } })))
  await fleet.pass(1000)
  expect(fleet.starts.length, 'a whole second of the whole rate').toBeGreaterThanOrEqual(99)
})
