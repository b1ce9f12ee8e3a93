import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { MemoryStore, Tollgate } from '../../src/index.js'
import { EVENTS, METRICS } from '../../src/telemetry/metric-table.js'

const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8')

test('docs/metrics.md lists every metric with its type, labels and help', () => {
  const rows = [...page.matchAll(/^\| `(tollgate_\w+)` \| (\w+) \|([^|]*)\| (.+) \|$/gm)]
  const documented = rows.map(([, name, type, labels = '', help]) => ({ name, type, labels: labels.trim(), help }))
  const real = METRICS.map(({ name, type, labels, help }) => ({ name, type, labels: labels.map((label) => `\`${label}\``).join(', '), help }))
  expect(documented).toEqual(real)
})

test('docs/metrics.md lists every event, and the buckets of every histogram', () => {
  const rows = [...page.matchAll(/^\| `(\w+)` \| `(tollgate[.\w]+)` \| (.+) \|$/gm)]
  expect(rows.map(([, name, on, help]) => [name, { on, help }])).toEqual(Object.entries(EVENTS))
  for (const { name, buckets = [] } of METRICS) if (buckets.length > 0) expect(page).toContain(`\`${name}\`: ${buckets.join(', ')}`)
})

test('the registry of a Tollgate has the metrics of the table, and no others', async () => {
  const tollgate = await Tollgate.open({ store: new MemoryStore() })
  const registry = await tollgate.metrics()
  const real = (await registry.getMetricsAsJSON()).map(({ name, type, help }) => ({ name, type, help }))
  expect(real).toEqual(METRICS.map(({ name, type, help }) => ({ name, type, help })))
  expect(await tollgate.metrics()).toBe(registry)
  await tollgate.close()
})
