import type { Registry } from 'prom-client'
import { expect, test } from 'vitest'
import { UpstreamLimited } from '../../src/index.js'
import { MetricCells, OTHER_LABEL } from '../../src/telemetry/metric-cells.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

/** The samples of a registry, by name and labels as Prometheus writes them. */
async function samples(registry: Registry): Promise<Map<string, number>> {
  const text = await registry.metrics()
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
}

test('a call is counted from the front door to its end, with decisions, checks, waits, tokens, dollars and the refusal of its agent', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({
    rules: [
      {
        name: 'account',
        scope: 'agent',
        limits: [
          { tokens: 10_000, per: 'minute' },
          { usd: 5, per: 'day' },
        ],
      },
      { name: 'per-user', scope: 'user', strategy: 'hard', limits: [{ requests: 2, per: 'day', algorithm: 'fixed_window' }] },
    ],
  })
  let refusals = 1
  tollgate.worker(async () => {
    if (refusals-- > 0) throw new UpstreamLimited({ retryAfterMs: 20 })
    return { usage: { tokens: 150, usd: 0.5 } }
  })
  const call = { agent: 'llm', user: 'ann', cost: { tokens: 100, usd: 0.25 } }
  await (await tollgate.enqueue(call)).result()
  await (await tollgate.enqueue(call)).result()
  await expect(tollgate.enqueue(call)).rejects.toThrow(/per-user/)
  const registry = await tollgate.metrics()
  let seen = new Map<string, number>()
  // On a busy machine the lease of the dispatcher may end for a moment.
  await until('the calls are counted, and a dispatcher leads', async () => {
    seen = await samples(registry)
    return seen.get('tollgate_calls_ended_total{agent="llm",how="done"}') === 2 && seen.get('tollgate_dispatcher') === 1
  })
  const expected = {
    'tollgate_calls_started_total{agent="llm"}': 3,
    'tollgate_calls_ended_total{agent="llm",how="returned"}': 1,
    'tollgate_call_wait_seconds_count{agent="llm"}': 3,
    'tollgate_call_run_seconds_count{agent="llm"}': 3,
    'tollgate_decisions_total{at="enqueue",rule="per-user",strategy="hard",outcome="reject"}': 1,
    'tollgate_exceeded_total{rule="per-user",limit="requests/day"}': 1,
    'tollgate_tokens_total{agent="llm",kind="estimated"}': 200,
    'tollgate_tokens_total{agent="llm",kind="actual"}': 300,
    'tollgate_dollars_total{agent="llm",kind="estimated"}': 0.5,
    'tollgate_dollars_total{agent="llm",kind="actual"}': 1,
    'tollgate_estimate_ratio_bucket{le="1.5",agent="llm"}': 2,
    'tollgate_estimate_ratio_bucket{le="1.25",agent="llm"}': 0,
    'tollgate_upstream_refusals_total{agent="llm",kind="later"}': 1,
    'tollgate_upstream_blocks_total{agent="llm"}': 1,
    'tollgate_dispatcher{}': 1,
  }
  for (const [name, value] of Object.entries(expected)) {
    const [base = '', labels = ''] = name.split(/[{}]/)
    const found = [...seen].find(
      ([sample]) => sample.startsWith(base) && sample.split(/[{},]/).sort().join() === [base, '', ...labels.split(',')].sort().join(),
    )
    expect(found?.[1] ?? seen.get(base), name).toBe(value)
  }
  // The second call may find its agent recovering, and wait.
  const decided = [...seen].filter(([name]) => name.startsWith('tollgate_decisions_total{at="enqueue"'))
  expect(decided.reduce((sum, [, value]) => sum + value, 0)).toBe(3)
  expect(seen.get('tollgate_pickups_total')).toBeGreaterThanOrEqual(3)
  expect(seen.get('tollgate_gate_seconds_count{at="enqueue"}')).toBe(3)
  expect(seen.get('tollgate_utilisation{rule="account",limit="tokens/minute"}')).toBeGreaterThan(0)
})

test('lines, ledger and overrides of the namespace are read when the registry is asked', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'r', scope: 'user', limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' }] }] })
  tollgate.worker(async () => ({}))
  await (await tollgate.enqueue({ agent: 'a', user: 'u' })).result()
  const waiting = await tollgate.enqueueMany([1, 2, 3].map(() => ({ agent: 'a', user: 'u' })))
  await tollgate.overrides.grant({ for: { user: 'v' }, allow: 'unlimited', reason: 'testing', by: 'ann', forMs: 60_000 })
  const registry = await tollgate.metrics()
  await until('this process dispatches', async () => (await samples(registry)).get('tollgate_dispatcher') === 1)
  await until('the lines are read', async () => (await samples(registry)).get('tollgate_line_depth{rule="r"}') === 3, 10_000)
  const seen = await samples(registry)
  expect(seen.get('tollgate_line_oldest_seconds{rule="r"}')).toBeGreaterThanOrEqual(0)
  expect(seen.get('tollgate_overrides')).toBe(1)
  expect(seen.get('tollgate_ledger_settled_total')).toBeGreaterThanOrEqual(1)
  for (const { id } of waiting) await tollgate.cancel(id)
})

test('the gate and limiters by key are counted without a Redis, too', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'r', scope: 'user', limits: [{ requests: 1, per: 'day' }] }] })
  await tollgate.gate.admit({ agent: 'a', user: 'u' })
  await tollgate.gate.admit({ agent: 'a', user: 'u' })
  const limiter = tollgate.limiter({ name: 'mine', requests: 1, per: 'day' })
  for (let n = 0; n < 3; n++) await limiter.check('k')
  const seen = await samples(await tollgate.metrics())
  expect(seen.get('tollgate_checks_total{rule="r"}')).toBe(2)
  expect(seen.get('tollgate_checks_total{rule="mine"}')).toBe(3)
  expect(seen.get('tollgate_decisions_total{at="limiter",rule="mine",strategy="",outcome="reject"}')).toBe(2)
  expect([...seen.keys()].filter((name) => name.includes('"u"') || name.includes('"k"'))).toEqual([])
})

test('a metric has a bounded number of series: labels beyond it count as other', () => {
  const cells = new MetricCells()
  for (let n = 0; n < 1500; n++) cells.add('ended', 1, `agent-${n}`, 'done')
  for (let n = 0; n < 1500; n++) cells.add('ended', 1, `agent-${n}`, 'failed')
  const all = cells.cells('ended')
  expect(all.length).toBeLessThanOrEqual(1001)
  expect(all.at(-1)).toMatchObject({ labels: [OTHER_LABEL, OTHER_LABEL], value: 2000 })
  expect(cells.sum('ended')).toBe(3000)
})
