import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis, type RedisOptions } from 'ioredis'
import { freePort } from '../../support/free-port.js'
import { redisProgram, serverProcess } from '../../support/redis-process.js'
import { until } from '../../support/until.js'

/** A server of a topology, as a process of its own. */
export interface RedisNode {
  readonly port: number
  /** A folder of its own, for its data and its files. */
  readonly folder: string
  /** Sends commands to this very server. */
  readonly client: Redis
  kill(): Promise<void>
  start(): Promise<void>
  pause(): void
  resume(): void
  stop(): Promise<void>
}

export interface NodeOptions {
  readonly flags?: readonly string[]
  /** The text of a configuration file that the server writes to; undefined for none. */
  readonly config?: string
  readonly sentinel?: boolean
  /** How `client` connects, beside the port. */
  readonly client?: RedisOptions
  readonly folder?: string
  /** False: it listens at a unix socket or for TLS alone. */
  readonly listens?: boolean
}

/** The bus of a cluster's server listens 10,000 above its port. */
async function portBelow(most: number): Promise<number> {
  let port = await freePort()
  while (port > most) port = await freePort()
  return port
}

export async function startNode({
  flags = [],
  config,
  sentinel = false,
  client: options,
  folder: given,
  listens = true,
}: NodeOptions = {}): Promise<RedisNode> {
  const command = redisProgram()
  if (command === undefined) throw new Error('there is no redis-server and no valkey-server on the PATH')
  const port = await portBelow(55_000)
  const folder = given ?? (await mkdtemp(join(tmpdir(), 'tollgate-topology-')))
  const file = join(folder, `${port}.conf`)
  if (config !== undefined) await writeFile(file, config)
  const args = [
    ...(config === undefined ? [] : [file]),
    ...(listens ? ['--port', String(port), '--bind', '127.0.0.1'] : []),
    '--dir',
    folder,
    ...(sentinel ? ['--sentinel'] : ['--save', '', '--appendonly', 'no', '--maxmemory-policy', 'noeviction']),
    ...flags,
  ]
  const clientOptions: RedisOptions = {
    port,
    host: '127.0.0.1',
    retryStrategy: () => 30,
    maxRetriesPerRequest: null,
    lazyConnect: true,
    enableReadyCheck: false,
    ...options,
  }
  const client = new Redis(clientOptions as RedisOptions & { replyMapping?: never })
  client.on('error', () => {})
  const server = serverProcess(command, args, (child) =>
    until(`the server at ${port} answers`, async () => {
      if (child.exitCode !== null) throw new Error(`${command} ${args.join(' ')} ended with ${child.exitCode}`)
      return (await client.ping().catch(() => '')) === 'PONG'
    }),
  )
  await server.start()
  return {
    port,
    folder,
    client,
    ...server,
    stop: async () => {
      client.disconnect()
      await server.kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
