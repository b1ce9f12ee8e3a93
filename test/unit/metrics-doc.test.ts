import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Metrics } from '../../src/telemetry/metrics.js'

test('docs/metrics.md lists every metric with its type and help', async () => {
  const rows = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8').matchAll(/^\| +`(\w+)` +\| +(\w+) +\|[^|]+\| +(.+?) +\|$/gm)
  const documented = [...rows].map(([, name, type, help]) => ({ name, type, help }))
  const real = (await new Metrics().registry.getMetricsAsJSON()).map(({ name, type, help }) => ({ name, type, help }))
  expect(documented).toEqual(real)
})
