import { z } from 'zod'
import { DEFAULTS } from '../model/defaults.js'
import { busSchema } from '../upstream/bus.js'
import { readSettings, type SettingsSource } from './settings.js'

export { workerFlags } from './flags.js'

export const whole = (least: number, most: number) => z.coerce.number().int().min(least).max(most)

/** What an environment variable says. */
const SAID: Readonly<Record<string, boolean>> = { true: true, '1': true, false: false, '0': false }

/** Hosts with commas in between. */
export const hostList = z.preprocess(
  (value) => (typeof value === 'string' ? value.split(',').map((one) => one.trim()) : value),
  z.array(z.string().min(1)).default([]),
)

const workerConfigSchema = z.strictObject({
  /** redis://, rediss://, sentinel://, redis-cluster:// or unix:// URL. */
  redis: z.string().min(1).optional(),
  namespace: z.string().min(1).default(DEFAULTS.namespace),
  queue: z.string().min(1).default(DEFAULTS.queue),
  /** The rules file; its `agents` hold the addresses of the agents. */
  rules: z.string().min(1),
  /** Whether the process ends where the namespace has no rules. */
  requireRules: z.preprocess((value) => SAID[String(value)] ?? value, z.boolean('must be true or false')).default(false),
  concurrency: whole(1, 100_000).default(DEFAULTS.concurrency),
  timeoutMs: whole(0, 86_400_000).default(DEFAULTS.timeoutMs),
  leaseMs: whole(1000, 3_600_000).default(DEFAULTS.leaseMs),
  logLevel: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  /** The port of /metrics; without one there are no metrics. */
  metricsPort: whole(1, 65_535).optional(),
  bus: busSchema.optional(),
  webhookHosts: hostList,
  /** How many replicas must have a charge before it counts. */
  replicas: whole(0, 10).default(0),
})

export type WorkerConfig = Readonly<z.infer<typeof workerConfigSchema>>

/** The environment variable of each setting. */
export const WORKER_ENVIRONMENT = {
  redis: 'REDIS_URL',
  namespace: 'TOLLGATE_NAMESPACE',
  queue: 'TOLLGATE_QUEUE',
  rules: 'TOLLGATE_RULES',
  requireRules: 'TOLLGATE_REQUIRE_RULES',
  concurrency: 'TOLLGATE_CONCURRENCY',
  timeoutMs: 'TOLLGATE_TIMEOUT_MS',
  leaseMs: 'TOLLGATE_LEASE_MS',
  logLevel: 'TOLLGATE_LOG_LEVEL',
  metricsPort: 'TOLLGATE_METRICS_PORT',
  bus: 'TOLLGATE_BUS',
  webhookHosts: 'TOLLGATE_WEBHOOK_HOSTS',
  replicas: 'TOLLGATE_REPLICAS',
} as const satisfies Record<keyof WorkerConfig, string>

/** The settings of a worker process. @throws ConfigInvalid naming the setting, where it came from, its value and bound */
export function workerConfig(flags: SettingsSource, environment: NodeJS.ProcessEnv): Promise<WorkerConfig> {
  return readSettings(workerConfigSchema, WORKER_ENVIRONMENT, flags, environment)
}
