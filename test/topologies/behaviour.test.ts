import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cluster } from 'ioredis'
import { Cluster as Cluster5 } from 'ioredis5'
import { afterAll, beforeAll, describe } from 'vitest'
import type { TollgateOptions } from '../../src/index.js'
import { freePort } from '../support/free-port.js'
import { behaves, type Topology } from './support/behaviour.js'
import { type ClusterFleet, startCluster } from './support/cluster.js'
import { type NodeOptions, type RedisNode, startNode } from './support/node.js'
import { startSentinels } from './support/sentinels.js'
import { makeCertificates } from './support/tls.js'

/** Its server stands still and goes on. */
function silenced(node: RedisNode): NonNullable<Topology['silence']> {
  return async () => {
    node.pause()
    return () => node.resume()
  }
}

async function single(options: NodeOptions, url: (node: RedisNode) => string): Promise<Topology> {
  const node = await startNode(options)
  return { url: url(node), silence: silenced(node), stop: () => node.stop() }
}

async function overTls(authClients: boolean): Promise<Topology> {
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-topology-'))
  const { ca, server, client, options } = makeCertificates(folder)
  const flags = ['--tls-ca-cert-file', ca, '--tls-cert-file', server.cert, '--tls-key-file', server.key, '--tls-auth-clients', authClients ? 'yes' : 'no']
  const port = await freePort()
  const node = await startNode({
    folder,
    flags: ['--port', '0', '--tls-port', String(port), '--bind', '127.0.0.1', ...flags],
    listens: false,
    client: { port, tls: options },
  })
  const files = authClients ? `&cert=${client.cert}&key=${client.key}` : ''
  return { url: `rediss://127.0.0.1:${port}?ca=${ca}${files}`, silence: silenced(node), stop: () => node.stop() }
}

async function atSocket(): Promise<Topology> {
  const folder = await mkdtemp(join(tmpdir(), 'tollgate-topology-'))
  const path = join(folder, 'redis.sock')
  return single({ folder, listens: false, flags: ['--port', '0', '--unixsocket', path], client: { path } }, () => `unix://${path}`)
}

async function onSentinels(): Promise<Topology> {
  const fleet = await startSentinels({ downAfterMs: 60_000 })
  return { url: fleet.url, silence: async () => silenced(await fleet.master())(undefined as never), stop: () => fleet.stop() }
}

async function onCluster(redis?: (fleet: ClusterFleet) => TollgateOptions['redis'], flags: readonly string[] = []): Promise<Topology> {
  const fleet = await startCluster({ flags: ['--cluster-require-full-coverage', 'no', ...flags] })
  return {
    url: fleet.url,
    ...(redis === undefined ? {} : { redis: () => redis(fleet) }),
    // Its replica takes over.
    silence: async ({ keys }) => {
      const node = await fleet.owner(keys.prefix)
      node.pause()
      return () => node.resume()
    },
    stop: () => fleet.stop(),
  }
}

/** As hosted servers have it. */
const NO_FUNCTIONS = ['--rename-command', 'FCALL', '', '--rename-command', 'FUNCTION', '']

const lazy = { lazyConnect: true, redisOptions: { maxRetriesPerRequest: null } }
const seeds = ({ masters }: ClusterFleet) => masters.map(({ port }) => ({ host: '127.0.0.1', port }))

const TOPOLOGIES: readonly [string, () => Promise<Topology>][] = [
  ['a single Redis', () => single({}, ({ port }) => `redis://127.0.0.1:${port}`)],
  ['a Redis without functions', () => single({ flags: NO_FUNCTIONS }, ({ port }) => `redis://127.0.0.1:${port}/3`)],
  [
    'a Redis with a password',
    () => single({ flags: ['--requirepass', 'p@ss/w:rd'], client: { password: 'p@ss/w:rd' } }, ({ port }) => `redis://:p%40ss%2Fw:rd@127.0.0.1:${port}`),
  ],
  ['a unix socket', atSocket],
  ['TLS with a CA of its own', () => overTls(false)],
  ['TLS with a client certificate', () => overTls(true)],
  ['three sentinels', onSentinels],
  ['a Redis Cluster', () => onCluster()],
  ['a Redis Cluster without functions', () => onCluster(undefined, NO_FUNCTIONS)],
  ['an ioredis Cluster', () => onCluster((fleet) => new Cluster(seeds(fleet), lazy))],
  ['a Cluster of ioredis 5', () => onCluster((fleet) => new Cluster5(seeds(fleet), lazy))],
]

describe.each(TOPOLOGIES)('on %s', (_, start) => {
  let topology: Topology
  beforeAll(async () => {
    topology = await start()
  })
  afterAll(() => topology?.stop())
  behaves(() => topology)
})
