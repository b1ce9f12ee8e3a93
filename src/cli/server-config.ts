import { z } from 'zod'
import { serverSettings } from '../http/server-settings.js'
import { DEFAULTS } from '../model/defaults.js'
import { ON_STORE_ERROR } from '../policy/rule.js'
import { busSchema } from '../upstream/bus.js'
import { readSettings, type SettingsSource } from './settings.js'
import { hostList, whole } from './worker-config.js'

export { serverFlags } from './flags.js'

const serverConfigSchema = serverSettings
  .extend({
    redis: z.string().min(1).optional(),
    namespace: z.string().min(1).default(DEFAULTS.namespace),
    queue: z.string().min(1).default(DEFAULTS.queue),
    rules: z.string().min(1).optional(),
    logLevel: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
    bus: busSchema.optional(),
    /** Hosts that webhooks of alerts may reach though they are not public. */
    webhookHosts: hostList,
    onStoreError: z.enum(ON_STORE_ERROR).default('local'),
    /** How many replicas must have an enqueued call, or a charge, before it counts. */
    replicas: whole(0, 10).default(0),
  })
  .strict()

export type ServerConfig = Readonly<z.infer<typeof serverConfigSchema>>

const SECRET = new Set(['producerKeys', 'adminKeys', 'viewerKeys', 'proxySecret', 'redis'])

/** The environment variable of each setting: its name in capitals, after TOLLGATE_. */
export const SERVER_ENVIRONMENT: Readonly<Record<string, string>> = Object.fromEntries(
  Object.keys(serverConfigSchema.shape).map((name) => [name, name === 'redis' ? 'REDIS_URL' : `TOLLGATE_${name.replace(/[A-Z]/g, '_$&').toUpperCase()}`]),
)

/** @throws ConfigInvalid naming the setting, where it came from, its value and bound */
export function serverConfig(flags: SettingsSource, environment: NodeJS.ProcessEnv): Promise<ServerConfig> {
  return readSettings(serverConfigSchema, SERVER_ENVIRONMENT, flags, environment, SECRET)
}
