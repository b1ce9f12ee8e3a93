import { createServer, type Server } from 'node:http'
import { type Metric, Registry } from 'prom-client'
import { ConfigInvalid } from '../model/errors.js'
import type { CallMetrics } from './call-metrics.js'
import type { MetricCell } from './metric-cells.js'
import { COUNTED, type CountedMetric, type MetricSpec, READ, type ReadMetric } from './metric-table.js'

/** The value of a metric that is read, for its labels. */
export interface MetricReading {
  readonly labels: readonly string[]
  readonly value: number
}

/** Reads the metrics of READ; what cannot be read now is left out. */
export type ReadMetrics = () => Promise<Partial<Record<ReadMetric, readonly MetricReading[]>>>

interface MetricValue {
  readonly value: number
  readonly labels: Record<string, string | number>
  readonly metricName?: string
}

/** A metric of the table as prom-client sees one: it reads its values when it is asked for them. */
class TableMetric {
  readonly name: string
  readonly help: string
  readonly type: MetricSpec['type']
  readonly aggregator = 'sum'

  constructor(
    private readonly spec: MetricSpec,
    private readonly values: () => MetricValue[] | Promise<MetricValue[]>,
  ) {
    this.name = spec.name
    this.help = spec.help
    this.type = spec.type
  }

  async get() {
    const { name, help, type, aggregator } = this
    return { name, help, type, aggregator, values: await this.values() }
  }

  /** The sums are those of the process: a registry cannot forget them. */
  reset(): void {}

  get labelNames(): readonly string[] {
    return this.spec.labels
  }
}

function labelsOf({ labels }: MetricSpec, values: readonly string[]): Record<string, string> {
  return Object.fromEntries(labels.map((label, n) => [label, values[n] ?? '']))
}

function samplesOf(spec: MetricSpec, cell: MetricCell): MetricValue[] {
  const labels = labelsOf(spec, cell.labels)
  if (spec.buckets === undefined) return [{ value: cell.value, labels }]
  const values: MetricValue[] = []
  let count = 0
  for (const [n, bound] of [...spec.buckets, '+Inf'].entries()) {
    count += cell.buckets[n] as number
    values.push({ metricName: `${spec.name}_bucket`, labels: { ...labels, le: bound }, value: count })
  }
  values.push({ metricName: `${spec.name}_sum`, labels, value: cell.value }, { metricName: `${spec.name}_count`, labels, value: cell.count })
  return values
}

/** What limiters by key have counted themselves. */
function valuesOfLimiters(metric: CountedMetric, metrics: CallMetrics): MetricValue[] {
  const counts = [...metrics.limiterCounts()]
  if (metric === 'checks') return counts.map(([rule, { allowed, refused }]) => ({ value: allowed + refused, labels: { rule } }))
  if (metric === 'exceeded') return counts.flatMap(([rule, { refused }]) => (refused === 0 ? [] : [{ value: refused, labels: { rule, limit: '' } }]))
  if (metric !== 'decisions') return []
  return counts.flatMap(([rule, { allowed, refused }]) => [
    { value: allowed, labels: { at: 'limiter', rule, strategy: '', outcome: 'run' } },
    { value: refused, labels: { at: 'limiter', rule, strategy: '', outcome: 'reject' } },
  ])
}

/**
 * A registry of its own, for one Tollgate: `docs/metrics.md` lists its metrics.
 * @param failures commands of the gate that Redis failed: the breaker counts them
 */
export function makeRegistry(metrics: CallMetrics, read: ReadMetrics, failures: () => number): Registry {
  const registry = new Registry()
  const register = (metric: TableMetric) => registry.registerMetric(metric as unknown as Metric)
  for (const [key, spec] of Object.entries(COUNTED) as [CountedMetric, MetricSpec][])
    register(
      new TableMetric(spec, () => {
        const counted = [...metrics.cells.cells(key).flatMap((cell) => samplesOf(spec, cell)), ...valuesOfLimiters(key, metrics)]
        return key === 'storeErrors' ? counted.map((one) => ({ ...one, value: one.value + failures() })) : counted
      }),
    )
  // All metrics of one scrape come from one reading.
  let reading: ReturnType<ReadMetrics> | undefined
  const readOnce = () => {
    reading ??= read().finally(() => {
      reading = undefined
    })
    return reading
  }
  for (const [key, spec] of Object.entries(READ) as [ReadMetric, MetricSpec][])
    register(new TableMetric(spec, async () => ((await readOnce())[key] ?? []).map(({ labels, value }) => ({ value, labels: labelsOf(spec, labels) }))))
  return registry
}

/** Serves `/metrics` on a port of all addresses; 404 elsewhere. @throws ConfigInvalid where the port cannot be had */
export function serveMetrics(registry: Registry, port: number): Promise<Server> {
  const server = createServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404).end()
      return
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    )
  })
  return new Promise((resolve, reject) => {
    server.once('error', ({ code = '' }: NodeJS.ErrnoException) => {
      const why =
        code === 'EADDRINUSE' ? 'is in use by another process' : code === 'EACCES' ? 'needs rights that this process does not have' : `cannot be had (${code})`
      reject(new ConfigInvalid(`metricsPort: the port ${why} (got ${port})`))
    })
    server.listen(port, () => resolve(server))
  })
}
