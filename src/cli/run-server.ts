import { pino } from 'pino'
import { dashboardPages } from '../dashboard/dashboard.js'
import { Server } from '../http/server.js'
import { withoutArguments } from '../model/secrets.js'
import { type RulesFile, readRules } from '../policy/rules-file.js'
import { within } from '../redis/bounded-wait.js'
import { Tollgate } from '../tollgate.js'
import { findRedis } from './local-redis.js'
import type { ServerConfig } from './server-config.js'
import { stopSignal } from './signals.js'

const LATE = new Error('late')

/** What a server that was started without much configuration lacks, each with what to do. */
function lacks({ producerKeys, viewerKeys, adminKeys, rules }: ServerConfig, content: Pick<RulesFile, 'rules' | 'agents'>): string[] {
  return [
    ...(rules === undefined ? ['no rules file: the rules of the namespace stay, and without any nothing is limited; give --rules'] : []),
    ...(Object.keys(content.agents).length === 0 ? ['no agents: /agents/… answers 404; name them under agents in the rules file'] : []),
    ...(producerKeys.length + viewerKeys.length + adminKeys.length === 0
      ? ['no keys: only this machine can reach the server, and may do everything; set TOLLGATE_PRODUCER_KEYS and TOLLGATE_ADMIN_KEYS']
      : []),
  ]
}

/**
 * The server as a process: serves until a signal stops it. Then it is not ready any more, takes no requests, lets running calls end, at most
 * `shutdownMs`, and closes.
 */
export async function runServer(config: ServerConfig, version: string): Promise<void> {
  const serializers = { err: (error: Error) => pino.stdSerializers.err(withoutArguments(error)) }
  const log = pino({ name: 'tollgate-server', level: config.logLevel, serializers })
  const content = config.rules === undefined ? { rules: [], agents: {} } : await readRules(config.rules)
  const local = config.redis === undefined ? await findRedis() : undefined
  let tollgate: Tollgate | undefined
  let server: Server | undefined
  try {
    const { namespace, queue, rules, bus, onStoreError, attempts, webhookHosts, replicas } = config
    tollgate = await Tollgate.open({
      redis: config.redis ?? local?.url,
      namespace,
      queue,
      rules,
      bus,
      onStoreError,
      attempts,
      webhookHosts,
      replicas,
      logger: log,
      actor: 'server',
    })
    server = new Server({
      tollgate,
      settings: config,
      log,
      version,
      agents: content.agents,
      environment: process.env,
      pages: dashboardPages({ redis: config.redis ?? local?.url }),
    })
    const stopped = stopSignal(log)
    const url = await server.start()
    if (local !== undefined) log.info({ redis: local.url }, `no Redis is configured: one was ${local.how}`)
    for (const what of lacks(config, content)) log.warn(what)
    log.info({ url, namespace, queue, rules: content.rules.length, agents: Object.keys(content.agents) }, 'serving')
    log.info({ signal: await stopped }, 'asked to stop; finishing the calls that run')
    const closing = server.close().then(() => tollgate?.close())
    await within(config.shutdownMs, closing, { late: () => LATE })
  } catch (error) {
    if (error !== LATE) {
      await server?.close().catch(() => {})
      await tollgate?.close().catch(() => {})
      await local?.stop()
      throw error
    }
    log.error({ waitedMs: config.shutdownMs }, 'calls still run; ending without them')
    await local?.stop()
    process.exit(1)
  }
  await local?.stop()
  log.info('stopped')
}
