import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { withoutArguments } from '../model/secrets.js'
import type { RedisAddress, ServerAccess, ServerNode } from './address.js'

/** How long a server may take to answer a question about the topology. */
const ASK_MS = 1000
/** How long the answers of further sentinels are waited for: one that missed a failover names the old master. */
const OTHERS_MS = 100

/** After so long without an answer the next server of a cluster is asked, too. */
const NEXT_MS = 150

/** Finds the server that takes the writes of a namespace. */
export interface MasterFinder {
  /** @throws Error that says why none was found */
  find(): Promise<ServerNode>
  /** A server named another one: the reply MOVED of a cluster. @returns that one, as it is reached from here */
  moved?(node: ServerNode): ServerNode
}

/** One question to one server, over a connection of its own. */
export async function ask<T>({ host, port, path }: ServerNode, access: ServerAccess, question: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis({
    ...access,
    ...(path === undefined ? { host, port } : { path }),
    lazyConnect: true,
    retryStrategy: null,
    enableReadyCheck: false,
    connectTimeout: ASK_MS,
    commandTimeout: ASK_MS,
    disableClientInfo: true,
  })
  let last: Error | undefined
  client.on('error', (error: Error) => {
    last = error
  })
  try {
    await client.connect()
    return await question(client)
  } catch (error) {
    throw withoutArguments(last ?? error)
  } finally {
    client.disconnect()
  }
}

function noneFound(what: string, failures: readonly string[]): Error {
  // The code is that of a server that refuses the connection: a request can be repeated.
  return Object.assign(new Error(`${what}${failures.length > 0 ? ` (${[...new Set(failures)].join('; ')})` : ''}`), { code: 'ECONNREFUSED' })
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

class SentinelFinder implements MasterFinder {
  constructor(private readonly address: RedisAddress & { kind: 'sentinel' }) {}

  /** Asks all sentinels: after a failover the answer with the highest epoch is the newest. */
  async find(): Promise<ServerNode> {
    const { nodes, sentinel, access, master } = this.address
    const { db: _db, username: _user, password: _password, ...reached } = access
    const found: { epoch: number; node: ServerNode }[] = []
    const failures: string[] = []
    const asked = nodes.map(async (node) => {
      try {
        const [fields, named] = await ask(node, { ...reached, ...sentinel }, (client) =>
          Promise.all([
            client.call('sentinel', 'master', master) as Promise<string[]>,
            // Its user may be allowed the other command alone.
            client.call('sentinel', 'get-master-addr-by-name', master).catch(() => null) as Promise<[string, string] | null>,
          ]),
        )
        const field = (name: string) => fields[fields.indexOf(name) + 1] as string
        // The sentinel that leads a failover goes on to show the old address beside the new epoch until all replicas follow the new master.
        const [host, port] = named ?? [field('ip'), field('port')]
        found.push({ epoch: Number(field('config-epoch')), node: { host, port: Number(port) } })
      } catch (error) {
        failures.push(messageOf(error))
        throw error
      }
    })
    const all = Promise.allSettled(asked)
    await Promise.any(asked).catch(() => {})
    let timer: NodeJS.Timeout | undefined
    await Promise.race([all, new Promise((resolve) => (timer = setTimeout(resolve, OTHERS_MS)))])
    clearTimeout(timer)
    const [newest] = found.sort((one, other) => other.epoch - one.epoch)
    if (newest === undefined) throw noneFound(`no sentinel knows the master ${master}`, failures)
    return newest.node
  }
}

type SlotServer = [host: string | null, port: number, ...unknown[]]
type SlotRange = [first: number, last: number, master: SlotServer, ...replicas: SlotServer[]]

class ClusterFinder implements MasterFinder {
  /** The servers to ask, those that answered last first. */
  private known: readonly ServerNode[]

  constructor(
    private readonly address: RedisAddress & { kind: 'cluster' },
    private readonly slot: number,
  ) {
    this.known = address.nodes
  }

  async find(): Promise<ServerNode> {
    const failures: string[] = []
    const found = new AbortController()
    try {
      return await Promise.any(this.known.map((node, place) => this.ownerBy(node, place * NEXT_MS, found.signal, failures)))
    } catch {
      throw noneFound('no server of the Redis Cluster says who has the keys of this namespace', failures)
    } finally {
      found.abort()
    }
  }

  /** The owner of the slot as one server knows it. @param afterMs when to ask, unless another one has answered by then */
  private async ownerBy(node: ServerNode, afterMs: number, found: AbortSignal, failures: string[]): Promise<ServerNode> {
    if (afterMs > 0) await sleep(afterMs, undefined, { signal: found })
    try {
      const ranges = (await ask(node, this.address.access, (client) => client.call('cluster', 'slots'))) as SlotRange[]
      // A server that does not know by which name it is reached leaves its host out.
      const reached = ([host, port]: SlotServer) => this.moved({ host: host || node.host, port })
      const owner = ranges.find(([first, last]) => first <= this.slot && this.slot <= last)?.[2]
      if (owner === undefined) throw new Error(`no server has slot ${this.slot}`)
      const all = ranges.flatMap(([, , ...servers]) => servers.map(reached))
      this.known = distinct([node, ...this.address.nodes, ...all])
      return reached(owner)
    } catch (error) {
      failures.push(messageOf(error))
      throw error
    }
  }

  moved(node: ServerNode): ServerNode {
    return this.address.reachedAt?.(node) ?? node
  }
}

export function sameNode(one: ServerNode, other: ServerNode | undefined): boolean {
  return one.host === other?.host && one.port === other.port && one.path === other.path
}

function distinct(nodes: readonly ServerNode[]): ServerNode[] {
  return nodes.filter((node, index) => nodes.findIndex((other) => sameNode(node, other)) === index)
}

/** @param slot that of the namespace's keys */
export function finderOf(address: RedisAddress, slot: number): MasterFinder {
  switch (address.kind) {
    case 'single':
      return { find: async () => address.node }
    case 'sentinel':
      return new SentinelFinder(address)
    case 'cluster':
      return new ClusterFinder(address, slot)
    default:
      throw address satisfies never
  }
}
