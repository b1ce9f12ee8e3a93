import { pino } from 'pino'
import { httpAgent } from '../agents/http-agent.js'
import { DEFAULTS } from '../model/defaults.js'
import { readRules } from '../policy/rules-file.js'
import { within } from '../redis/bounded-wait.js'
import { DEFAULT_URL } from '../redis/connection.js'
import { serveMetrics } from '../telemetry/metrics.js'
import { Tollgate } from '../tollgate.js'
import { stopSignal } from './signals.js'
import type { WorkerConfig } from './worker-config.js'

/**
 * A worker process: runs calls over HTTP until a signal stops it. Then it takes no further calls and waits for the running ones, at most
 * `DEFAULTS.shutdownTimeoutMs`; after that the process ends with exit code 1, and BullMQ gives the calls to another worker. Logs to standard output.
 */
export async function runWorker(config: WorkerConfig): Promise<void> {
  const log = pino({ name: 'tollgate-worker', level: config.logLevel })
  const { rules, agents } = await readRules(config.rules)
  const handler = httpAgent(agents)
  const tollgate = await Tollgate.open({
    redis: config.redis ?? DEFAULT_URL,
    namespace: config.namespace,
    queue: config.queue,
    rules: config.rules,
    requireRules: config.requireRules,
    bus: config.bus,
    webhookHosts: config.webhookHosts,
    replicas: config.replicas,
    logger: log,
  })
  const stopped = stopSignal(log)
  const metricsServer =
    config.metricsPort === undefined
      ? undefined
      : await serveMetrics(await tollgate.metrics(), config.metricsPort).catch(async (error: unknown) => {
          // Its connections would keep the process.
          await tollgate.close()
          throw error
        })
  tollgate.worker(handler, { concurrency: config.concurrency, timeoutMs: config.timeoutMs, leaseMs: config.leaseMs })
  log.info(
    { namespace: config.namespace, queue: config.queue, concurrency: config.concurrency, rules: rules.length, agents: Object.keys(agents) },
    'taking calls',
  )

  const signal = await stopped
  log.info({ signal }, 'asked to stop; finishing the calls that run')
  const late = new Error('late')
  await within(DEFAULTS.shutdownTimeoutMs, tollgate.close(), { late: () => late }).catch((error: unknown) => {
    if (error !== late) throw error
    log.error({ waitedMs: DEFAULTS.shutdownTimeoutMs }, 'calls still run; ending without them, another worker runs them again')
    // Running handlers would keep the process and its leases alive.
    process.exit(1)
  })
  metricsServer?.closeAllConnections()
  metricsServer?.close()
  log.info('stopped')
}
