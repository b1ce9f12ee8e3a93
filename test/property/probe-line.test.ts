import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { CallRequest } from '../../src/admission/request.js'
import type { UpstreamReport } from '../../src/model/upstream.js'
import type { ScriptClient } from '../../src/store/redis/script-client.js'
import { forget } from '../support/keys.js'
import { newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { givenScriptClient, requestOf } from '../support/script-client.js'
import { SimulatedQueue } from '../support/simulated-queue.js'

const RULES = [{ name: 'account', scope: 'agent', limits: [{ requests: 100, per: 'second', burst: 10 }] }]
const BLOCKED_MS = 2000

async function refuse(scriptClient: ScriptClient, request: CallRequest): Promise<void> {
  const report: UpstreamReport = { kind: 'refused', retryAfterMs: BLOCKED_MS, reduceFactor: 0.5, name: request.call, observed: null }
  await scriptClient.reportUpstream(request, report)
}

test('when a block ends one call of its line starts as the probe, the others after it has ended, and none above the limit (invariants 1, 5, 6)', async () => {
  const namespace = newNamespace()
  const cases = fc.record({ calls: fc.integer({ min: 2, max: 80 }), runMs: fc.integer({ min: 5, max: 300 }), latencyMs: fc.integer({ min: 1, max: 40 }) })
  await fc.assert(
    fc.asyncProperty(cases, async ({ calls, runMs, latencyMs }) => {
      await forget(namespace)
      const { scriptClient, clock } = givenScriptClient(namespace, RULES)
      const first = requestOf(scriptClient, 'first', { agent: 'llm' })
      await scriptClient.start([first], [], true)
      await refuse(scriptClient, first)
      const blockedUntilMs = clock.nowMs + BLOCKED_MS
      const queue = new SimulatedQueue({ namespace, scriptClient, clock, latencyMs: () => latencyMs, runMs })
      await queue.enqueue(Array.from({ length: calls }, (_, index) => ({ id: `c${index}`, call: { agent: 'llm' } })))
      await queue.runFor(BLOCKED_MS + runMs + 200 + calls * 25)
      const [probe, ...others] = queue.starts.map(({ atMs }) => atMs)
      expect(probe).toBeGreaterThanOrEqual(blockedUntilMs)
      expect(probe).toBeLessThanOrEqual(blockedUntilMs + latencyMs + 20)
      expect(others, 'all others start at half the rate, soon after the probe').toHaveLength(calls - 1)
      for (const atMs of others) expect(atMs).toBeGreaterThanOrEqual((probe as number) + runMs)
      for (const [index, atMs] of others.entries()) {
        const lengthMs = atMs - ((probe as number) + runMs)
        expect(index + 1).toBeLessThanOrEqual((lengthMs / 1000) * 50 + 1e-6)
      }
      expect(queue.pickups).toBeLessThanOrEqual(calls + 3)
    }),
    { numRuns: runs(12) },
  )
})

test('calls that were woken before a block go back to a line, and one of them is the probe', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, RULES)
  const first = requestOf(scriptClient, 'first', { agent: 'llm' })
  await scriptClient.start([first], [], true)
  const queue = new SimulatedQueue({ namespace, scriptClient, clock, latencyMs: () => 20, runMs: 100 })
  expect(await queue.enqueue(Array.from({ length: 5 }, (_, index) => ({ id: `c${index}`, call: { agent: 'llm' } })))).toEqual(Array(5).fill('run'))
  await refuse(scriptClient, first)
  const blockedUntilMs = clock.nowMs + BLOCKED_MS
  await queue.runFor(BLOCKED_MS + 1000)
  expect(queue.starts).toHaveLength(5)
  const [probe, ...others] = queue.starts.map(({ atMs }) => atMs)
  expect(probe).toBeGreaterThanOrEqual(blockedUntilMs)
  for (const atMs of others) expect(atMs).toBeGreaterThanOrEqual((probe as number) + 100)
})

test('a 429 of one model slows no call of another model', async () => {
  const namespace = newNamespace()
  const { scriptClient, clock } = givenScriptClient(namespace, RULES)
  const first = requestOf(scriptClient, 'first', { agent: 'llm', model: 'a' })
  await scriptClient.start([first], [], true)
  await refuse(scriptClient, first)
  const queue = new SimulatedQueue({ namespace, scriptClient, clock, latencyMs: () => 5 })
  await queue.enqueue(Array.from({ length: 100 }, (_, index) => ({ id: `c${index}`, call: { agent: 'llm', model: 'b' } })))
  await queue.runFor(1000)
  expect(queue.starts.length, 'a second at the full rate').toBeGreaterThanOrEqual(99)
})
