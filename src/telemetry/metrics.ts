import { createServer, type Server } from 'node:http'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { UsageFigures } from '../admission/usage-reader.js'
import type { Call } from '../model/call.js'
import { ConfigInvalid } from '../model/errors.js'
import { NO_OUTAGE, type OutageFigures } from '../outage/outage.js'
import type { Ended, WorkerObserver } from './observer.js'

/** Upper bounds of the wait's buckets, in seconds. */
const WAIT_BUCKETS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600]

/** The metrics of a worker process, for Prometheus. `docs/metrics.md` lists each. */
export class Metrics implements WorkerObserver {
  readonly registry = new Registry()
  private readonly starts = new Counter({
    name: 'tollgate_calls_started_total',
    help: 'Calls that started.',
    labelNames: ['agent'],
    registers: [this.registry],
  })
  private readonly ends = new Counter({
    name: 'tollgate_calls_ended_total',
    help: 'Calls that a worker took, by how they ended there: done, failed, returned (429), rejected, expired.',
    labelNames: ['agent', 'how'],
    registers: [this.registry],
  })
  private readonly waits = new Histogram({
    name: 'tollgate_call_wait_seconds',
    help: 'From the enqueue to the start.',
    labelNames: ['agent'],
    buckets: WAIT_BUCKETS,
    registers: [this.registry],
  })
  private readonly tokens = new Counter({
    name: 'tollgate_tokens_total',
    help: 'Tokens of calls that ended: estimated when they started, and actual as their agents told.',
    labelNames: ['agent', 'kind'],
    registers: [this.registry],
  })

  private usage: () => UsageFigures = () => ({ unreadable: 0, capped: 0 })
  private outage: () => Pick<OutageFigures, 'away' | 'unchecked'> = () => NO_OUTAGE

  constructor() {
    const figures = () => this.outage()
    new Gauge({
      name: 'tollgate_store_away',
      help: 'While Redis is taken to be away 1, else 0.',
      registers: [this.registry],
      collect() {
        this.set(figures().away ? 1 : 0)
      },
    })
    new Counter({
      name: 'tollgate_unchecked_total',
      help: 'Calls let in unchecked while Redis was away.',
      registers: [this.registry],
      collect() {
        this.reset()
        this.inc(figures().unchecked)
      },
    })
    const usage = () => this.usage()
    for (const [what, help] of [
      ['unreadable', 'Usages that agents reported and that could not be read: the estimates stand.'],
      ['capped', 'Amounts that agents reported and that were capped, since they were not believed.'],
    ] as const)
      new Counter({
        name: `tollgate_usage_${what}_total`,
        help,
        registers: [this.registry],
        collect() {
          this.reset()
          this.inc(usage()[what])
        },
      })
  }

  /** Where the figures of usages come from: `tollgate.stats.usage`. */
  watchUsage(figures: () => UsageFigures): void {
    this.usage = figures
  }

  /** Where the figures of outages come from: `tollgate.stats.outage`. */
  watchOutages(figures: () => Pick<OutageFigures, 'away' | 'unchecked'>): void {
    this.outage = figures
  }

  started({ agent }: Call, waitedMs: number): void {
    this.starts.inc({ agent })
    this.waits.observe({ agent }, Math.max(0, waitedMs) / 1000)
  }

  ended({ agent }: Call, how: Ended, { estimated, actual }: { estimated: number; actual: number | undefined }): void {
    this.ends.inc({ agent, how })
    if (how !== 'done' && how !== 'failed') return
    this.tokens.inc({ agent, kind: 'estimated' }, estimated)
    if (actual !== undefined) this.tokens.inc({ agent, kind: 'actual' }, actual)
  }
}

/** Serves `/metrics` on a port of all addresses; 404 elsewhere. @throws ConfigInvalid where the port cannot be had */
export function serveMetrics(metrics: Metrics, port: number): Promise<Server> {
  const server = createServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404).end()
      return
    }
    metrics.registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(text),
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
