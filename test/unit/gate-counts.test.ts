import { expect, onTestFinished, test } from 'vitest'
import type { CallRequest } from '../../src/admission/request.js'
import { Resolver } from '../../src/admission/resolver.js'
import { GateCounts } from '../../src/gate/gate-counts.js'
import { Recorder } from '../../src/history/recorder.js'
import type { HistoryBatch } from '../../src/history/series.js'
import { NOTHING } from '../../src/model/cost.js'
import type { RejectDecision, RunDecision } from '../../src/model/decision.js'
import { DEFAULTS } from '../../src/model/defaults.js'
import { compileRules } from '../../src/policy/compile.js'
import { Keys } from '../../src/redis/keys.js'
import { CallMetrics } from '../../src/telemetry/call-metrics.js'

const COSTS = NOTHING
const RULES = compileRules([
  { name: 'account', scope: 'agent', limits: [{ requests: 5, per: 'minute' }] },
  { name: 'budget', scope: 'org', strategy: 'hard', limits: [{ usd: 1, per: 'day', algorithm: 'fixed_window' }] },
])

function parts() {
  const batches: HistoryBatch[] = []
  const series = { add: async (batch: HistoryBatch) => void batches.push(batch) }
  const recorder = new Recorder({ series: series as never, log: { debug: () => {} } as never, nowMs: () => Date.now(), away: () => false })
  onTestFinished(() => recorder.close(true))
  return { recorder, metrics: new CallMetrics(), batches }
}

/** Calls of several agents and orgs, of which some are refused. */
function decided(): [CallRequest, RunDecision | RejectDecision][] {
  const resolver = new Resolver(RULES, new Keys('n'), undefined, DEFAULTS.upstream)
  return Array.from({ length: 60 }, (_, n) => {
    const call = { agent: `a${n % 3}`, user: `u${n % 5}`, ...(n % 4 === 0 ? {} : { org: 'acme' }) }
    const request: CallRequest = { id: '', token: '', call, ...resolver.resolve(call, COSTS) }
    if (n % 7 > 1) return [request, { outcome: 'run', atMs: 1, usage: [] }]
    const [rule, limit, unit] = n % 7 === 0 || n % 4 === 0 ? ['account', 'requests/minute', 'requests'] : ['budget', 'usd/day', 'usd']
    const binding = { kind: 'rule' as const, rule, limit, scopeValue: 'x', unit: unit as 'requests' | 'usd' }
    const reason = n % 14 === 0 ? ('unavailable' as const) : ('limited' as const)
    return [request, { outcome: 'reject', atMs: 1, usage: [], reason, retryAfterMs: 5, binding, ...(n % 2 === 0 ? { strategy: 'hard' as const } : {}) }]
  })
}

/** Without how long decisions took, which differs from call to call. */
function counts({ batches, metrics }: ReturnType<typeof parts>) {
  const series = new Map<string, number>()
  for (const { name, resolutions, numbers } of batches.flatMap((batch) => batch.series))
    for (const [number, amount] of numbers) if (!/^c\d|^ct$|^\^s$/.test(number)) series.set(`${name} ${resolutions} ${number}`, amount)
  const tops = batches.flatMap((batch) => batch.tops.map(({ list, counts }) => [list, [...counts].sort()]))
  const cells = (['checks', 'decisions', 'exceeded', 'gate'] as const).map((metric) =>
    metrics.cells.cells(metric).map(({ labels, value, count }) => [labels.join(), metric === 'gate' ? count : value]),
  )
  return { series: [...series].sort(), tops, cells: cells.map((of) => of.sort()) }
}

test('calls at the gate that are counted by kinds give the numbers of calls that are counted one by one', async () => {
  const [together, single] = [parts(), parts()]
  const gate = new GateCounts(together.recorder, together.metrics)
  for (const [request, decision] of decided()) {
    const sentMs = performance.now()
    gate.decided(request, decision, sentMs)
    single.recorder.atGate(request, decision, 1)
    single.metrics.decided('gate', request, decision, sentMs)
  }
  await Promise.all([together.recorder.sync(), single.recorder.sync()])
  const expected = counts(single)
  expect(expected.series.length).toBeGreaterThan(20)
  expect(counts(together)).toEqual(expected)
})

test('kinds of calls beyond the bound are counted one by one', async () => {
  const [request, decision] = decided().find((one) => one[1].outcome === 'run') as [CallRequest, RunDecision]
  const { recorder, metrics, batches } = parts()
  const gate = new GateCounts(recorder, metrics)
  for (let n = 0; n < 1500; n++) gate.decided({ ...request, call: { ...request.call, agent: `agent-${n}` } }, decision, performance.now())
  await recorder.sync()
  const all = batches.flatMap(({ series }) => series).find(({ name, resolutions }) => name === 'all' && resolutions.includes('m'))
  expect(all?.numbers.get('a')).toBe(1500)
  expect(metrics.cells.sum('decisions')).toBe(1500)
})
