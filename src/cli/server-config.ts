import type { Command } from 'commander'
import { z } from 'zod'
import { serverSettings } from '../http/server-settings.js'
import { DEFAULTS } from '../model/defaults.js'
import { ON_STORE_ERROR } from '../policy/rule.js'
import { busSchema } from '../upstream/bus.js'
import { readSettings, type SettingsSource } from './settings.js'

/** The flags of the server; every setting has an environment variable and its name in the config file besides. */
export function serverFlags(command: Command): Command {
  return command
    .option('--config <file>', 'settings by name, as YAML (TOLLGATE_CONFIG)')
    .option('--rules <file>', 'the rules file, with its agents (TOLLGATE_RULES)')
    .option('--redis <url>', 'redis://, rediss://, sentinel://, redis-cluster:// or unix:// URL (REDIS_URL)')
    .option('--namespace <name>', 'the gate (TOLLGATE_NAMESPACE)')
    .option('--queue <name>', 'the BullMQ queue (TOLLGATE_QUEUE)')
    .option('--host <address>', 'the address to listen at (TOLLGATE_HOST)')
    .option('--port <port>', 'the port, 0 = any free one (TOLLGATE_PORT)')
    .option('--log-level <level>', 'fatal to trace, or silent (TOLLGATE_LOG_LEVEL)')
}

const serverConfigSchema = serverSettings
  .extend({
    redis: z.string().min(1).optional(),
    namespace: z.string().min(1).default(DEFAULTS.namespace),
    queue: z.string().min(1).default(DEFAULTS.queue),
    rules: z.string().min(1).optional(),
    logLevel: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
    bus: busSchema.optional(),
    onStoreError: z.enum(ON_STORE_ERROR).default('local'),
  })
  .strict()

export type ServerConfig = Readonly<z.infer<typeof serverConfigSchema>>

const SECRET = new Set(['producerKeys', 'viewerKeys', 'adminKeys', 'proxySecret', 'redis'])

/** The environment variable of each setting: its name in capitals, after TOLLGATE_. */
export const SERVER_ENVIRONMENT: Readonly<Record<string, string>> = Object.fromEntries(
  Object.keys(serverConfigSchema.shape).map((name) => [name, name === 'redis' ? 'REDIS_URL' : `TOLLGATE_${name.replace(/[A-Z]/g, '_$&').toUpperCase()}`]),
)

/** @throws ConfigInvalid naming the setting, where it came from, its value and bound */
export function serverConfig(flags: SettingsSource, environment: NodeJS.ProcessEnv): Promise<ServerConfig> {
  return readSettings(serverConfigSchema, SERVER_ENVIRONMENT, flags, environment, SECRET)
}
