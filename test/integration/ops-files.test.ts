import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { METRICS } from '../../src/telemetry/metric-table.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const PROMETHEUS = join(ROOT, 'ops/prometheus')
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')
const execute = promisify(execFile)

/** Debian's `prometheus`, which .ci/run installs, has it. */
async function promtool(...args: string[]): Promise<string | undefined> {
  try {
    const { stdout } = await execute('promtool', args, { cwd: PROMETHEUS })
    return stdout
  } catch (error) {
    const { code, stdout = '', stderr = '' } = error as { code?: unknown; stdout?: string; stderr?: string }
    if (code === 'ENOENT') {
      console.warn('promtool is not installed (apt-get install prometheus): the rules of Prometheus are not tried')
      return undefined
    }
    throw new Error(`promtool ${args.join(' ')} failed\n${stdout}${stderr}`, { cause: error })
  }
}

interface RulesOfPrometheus {
  groups: { rules: { alert?: string; record?: string; expr: string }[] }[]
}
const rules = (parse(read('ops/prometheus/rules.yml')) as RulesOfPrometheus).groups.flatMap((group) => group.rules)

test('promtool finds nothing wrong with the rules of Prometheus, and every alert fires and ends as its unit tests say', async () => {
  const checked = await promtool('check', 'rules', 'rules.yml')
  if (checked === undefined) return
  expect(checked).toContain(`SUCCESS: ${rules.length} rules found`)
  await promtool('test', 'rules', 'rules.test.yml')
})

test('every alert of Prometheus has a unit test in which it fires, and one in which it does not', () => {
  const { tests } = parse(read('ops/prometheus/rules.test.yml')) as { tests: { alert_rule_test?: { alertname: string; exp_alerts: unknown[] }[] }[] }
  const tried = tests.flatMap((one) => one.alert_rule_test ?? [])
  for (const { alert } of rules) {
    if (alert === undefined) continue
    const ofIt = tried.filter(({ alertname }) => alertname === alert)
    expect(
      ofIt.some(({ exp_alerts }) => exp_alerts.length > 0),
      `${alert} fires`,
    ).toBe(true)
    expect(
      ofIt.some(({ exp_alerts }) => exp_alerts.length === 0),
      `${alert} does not fire`,
    ).toBe(true)
  }
})

test('rules and dashboard use the metrics of the table, and the dashboard shows all of them', () => {
  const names = METRICS.flatMap(({ name, buckets }) => (buckets === undefined ? [name] : [`${name}_bucket`]))
  const recorded = rules.flatMap(({ record }) => (record === undefined ? [] : [record]))
  const dashboard = read('ops/grafana/dashboards/tollgate.json')
  const used = (text: string) => [...new Set([...text.matchAll(/\btollgate[_:][a-z0-9_:]+/g)].map(([name]) => name))]
  const shown = used(dashboard.replaceAll('label_values(', ''))
  for (const name of [...used(read('ops/prometheus/rules.yml')), ...shown]) expect([...names, ...recorded]).toContain(name)
  const behind = rules.filter(({ record }) => record !== undefined && shown.includes(record)).flatMap(({ expr }) => used(expr))
  const covered = new Set([...shown, ...behind])
  const silent = ['tollgate_ledger_settled_total', 'tollgate_ledger_released_total', 'tollgate_outages_total']
  expect(names.filter((name) => !covered.has(name)).sort()).toEqual(silent.sort())
})

test('the dashboard is JSON that Grafana takes: panels have their own places and ids', () => {
  const { panels, uid } = JSON.parse(read('ops/grafana/dashboards/tollgate.json')) as {
    uid: string
    panels: { id: number; gridPos: { x: number; y: number; w: number; h: number } }[]
  }
  expect(uid).toBe('tollgate')
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
  for (const [n, { gridPos: one }] of panels.entries()) {
    expect(one.x + one.w).toBeLessThanOrEqual(24)
    for (const { gridPos: other } of panels.slice(n + 1))
      expect(one.x + one.w <= other.x || other.x + other.w <= one.x || one.y + one.h <= other.y || other.y + other.h <= one.y).toBe(true)
  }
})

test('docker-compose.yml starts Redis, server, workers, Prometheus and Grafana, each with a health check, over files that are there', async () => {
  const { services } = parse(read('docker-compose.yml'), { merge: true }) as {
    services: Record<string, { healthcheck?: { test: string[] }; volumes?: string[]; command?: string[]; build?: string }>
  }
  expect(Object.keys(services)).toEqual(['redis', 'server', 'worker', 'prometheus', 'grafana'])
  for (const [name, { healthcheck, volumes = [] }] of Object.entries(services)) {
    expect(healthcheck?.test[0], name).toBe('CMD')
    for (const volume of volumes) {
      const source = volume.replace(/^\$\{\w+:-([^}]+)\}/, '$1').split(':')[0] as string
      if (source.startsWith('.')) expect(existsSync(join(ROOT, source)), volume).toBe(true)
    }
  }
  expect([services['server']?.command, services['worker']?.command]).toEqual([['serve'], ['worker']])
  expect(read('Dockerfile')).toMatch(/^USER node$/m)
  await promtool('check', 'config', '--syntax-only', 'prometheus.yml')
})
