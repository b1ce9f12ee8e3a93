import { createConnection, Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { AbstractConnector, type Redis, type RedisOptions } from 'ioredis'
import type { RedisAddress, ServerNode } from './address.js'
import { ask, finderOf, type MasterFinder, sameNode } from './master-finder.js'

/** How often the topology is looked at while Redis does not answer. */
const LOOK_MS = 200
/** A connection that has not been answered for so long after its server answered another one is dead. */
const DEAD_AFTER_MS = 300
/** The longest wait before a connection is tried again: processes are back within this of each other. */
export const LONGEST_RETRY_MS = 250
/** ioredis closes a connection, and destroys it if the server has not closed it by then. */
const DISCONNECT_MS = 2000

/** What a server says of itself when a connection is made, by INFO; {} where the user may not ask. */
export type ServerInfo = Readonly<Record<string, string | undefined>>

/**
 * Keeps all connections of one Tollgate at the server that takes the writes of its namespace: a single Redis, the master that sentinels name, or the
 * master of a Redis Cluster that has the slot of the namespace's keys. All keys of a namespace have one slot, so a connection to that server is all
 * that Tollgate and BullMQ need, and each command costs there what it costs on a single Redis.
 *
 *     connect: find the server, connect, check that it is a master ──replica──> find again
 *     MOVED, READONLY: reconnect and send the command again; the other connections that are elsewhere reconnect, too
 *     silence (`suspect`): find the server every 200 ms; if it is another one, or answers a new connection, those that hang are given up
 *
 * A command that was under way when its connection ended is sent again by ioredis; scripts know a second copy of a request. If the process dies there
 * is nothing to clear up.
 */
export class Follower {
  readonly finder: MasterFinder
  private readonly connectors = new Set<FollowingConnector>()
  /** The master that a reply has named, or the last look: all connections go there at once, and none has to find it anew. */
  private told: { readonly node: ServerNode; readonly untilMs: number } | undefined
  private finding: Promise<ServerNode> | undefined
  private looking = false
  /** Of the last server that was connected to. */
  info: ServerInfo = {}

  /** @param slot of the keys of the namespace */
  constructor(
    readonly address: RedisAddress,
    slot: number,
  ) {
    this.finder = finderOf(address, slot)
  }

  /** Options by which ioredis makes connections that follow the master; `duplicate()` keeps them. */
  options(): Pick<RedisOptions, 'Connector' | 'reconnectOnError' | 'retryStrategy'> {
    const follower = this
    const Connector = class extends FollowingConnector {
      constructor() {
        super(follower)
      }
    }
    const several = this.address.kind !== 'single'
    return {
      Connector,
      ...(several ? { reconnectOnError: (error: Error) => this.isElsewhere(error) && 2 } : {}),
      retryStrategy: (times) => Math.min(LONGEST_RETRY_MS, times * 50),
    }
  }

  /** Whether a reply says that another server takes the command. */
  private isElsewhere({ message }: Error): boolean {
    const [, host, port] = /^MOVED \d+ (.*):(\d+)$/.exec(message) ?? []
    if (port !== undefined) {
      const node = { host: host ?? '', port: Number(port) }
      // Without a host it is the one of the server that answered.
      if (node.host === '') return true
      const master = this.finder.moved?.(node) ?? node
      this.tell(master)
      this.leaveOthers(master)
      return true
    }
    return this.address.kind === 'sentinel' && message.startsWith('READONLY')
  }

  async next(): Promise<ServerNode> {
    const { told } = this
    if (told !== undefined && performance.now() < told.untilMs) return told.node
    this.finding ??= this.finder.find().finally(() => {
      this.finding = undefined
    })
    const node = await this.finding
    this.leaveOthers(node)
    return node
  }

  private tell(node: ServerNode): void {
    this.told = { node, untilMs: performance.now() + LOOK_MS }
  }

  /** A connection has not come to a master: the next one looks for it. */
  forget(): void {
    this.told = undefined
  }

  add(connector: FollowingConnector): void {
    this.connectors.add(connector)
  }

  remove(connector: FollowingConnector): void {
    this.connectors.delete(connector)
  }

  /** Ends the connections that are to other servers than this one. @returns whether there were any */
  private leaveOthers(node: ServerNode): boolean {
    if (this.address.kind === 'single') return false
    const others = [...this.connectors].filter((connector) => connector.node !== undefined && !sameNode(connector.node, node))
    for (const connector of others) connector.leave()
    return others.length > 0
  }

  /** Redis does not answer `client`, or refuses: until `over`, looks for the master, and gives up connections that hang or are to another server. */
  suspect(client: Redis, over: () => boolean): void {
    if (this.looking) return
    this.looking = true
    void this.look(client, over).finally(() => {
      this.looking = false
    })
  }

  private async look(client: Redis, over: () => boolean): Promise<void> {
    let checking = false
    while (!over() && client.status !== 'end') {
      await sleep(LOOK_MS, undefined, { ref: false })
      if (over() || this.connectors.size === 0) continue
      try {
        const node = await this.finder.find()
        if (this.leaveOthers(node)) this.tell(node)
        if (checking) continue
        checking = true
        // It takes as long as the server is silent; a failover meanwhile is not missed.
        void this.leaveDead(client, node).finally(() => {
          checking = false
        })
      } catch {
        // No server answers: the connections are tried again by themselves.
      }
    }
  }

  /** Gives up connections that a server does not answer though it answers a new one: the network was cut in between. Never fails. */
  private async leaveDead(client: Redis, node: ServerNode): Promise<void> {
    const silent = [...this.connectors].filter((connector) => sameNode(node, connector.node)).map((connector) => ({ connector, stream: connector.socket }))
    if (silent.length === 0) return
    let answered = false
    const old = client.ping().then(
      () => true,
      () => true,
    )
    void old.then(() => {
      answered = true
    })
    try {
      if (await soon(old)) return
      await ask(node, this.address.access, (other) => other.ping())
      if (answered || (await soon(old))) return
    } catch {
      return
    }
    for (const { connector, stream } of silent) if (connector.socket === stream) connector.leave()
  }
}

/** Whether it is answered within `DEAD_AFTER_MS`. */
function soon(answered: Promise<boolean>): Promise<boolean> {
  return Promise.race([answered, sleep(DEAD_AFTER_MS, false, { ref: false })])
}

/** Connects ioredis to the server that its follower finds. */
class FollowingConnector extends AbstractConnector {
  /** Where the connection is, or is being made to. */
  node: ServerNode | undefined

  constructor(private readonly follower: Follower) {
    super(DISCONNECT_MS)
  }

  get socket(): Socket | TLSSocket {
    return this.stream
  }

  override async connect(): Promise<Socket | TLSSocket> {
    this.connecting = true
    this.node = undefined
    try {
      const node = await this.follower.next()
      this.stream = this.connecting ? this.open(node) : new Socket().destroy()
    } catch (error) {
      // ioredis would end for good where this is rejected; after a connection that ended it tries again.
      Reflect.set(this, 'firstError', error)
      this.stream = new Socket().destroy()
    }
    return this.stream
  }

  private open(node: ServerNode): Socket | TLSSocket {
    const { tls, family } = this.follower.address.access
    const { host, port, path } = node
    const where = path === undefined ? { host, port, ...(family === undefined ? {} : { family }) } : { path }
    const stream = tls === undefined ? createConnection(where) : connectTls({ ...where, ...tls })
    this.node = node
    this.follower.add(this)
    stream.once('error', (error) => {
      this.follower.forget()
      Reflect.set(this, 'firstError', error)
    })
    stream.once('close', () => {
      if (this.stream === stream) this.follower.remove(this)
    })
    return stream
  }

  /** Ends the connection; ioredis makes a new one. */
  leave(): void {
    this.stream.destroy()
  }

  /** Is given what the server says of itself. @returns whether it takes writes */
  override check(info: ServerInfo): boolean {
    this.follower.info = info
    const takesWrites = this.follower.address.kind === 'single' || info['role'] === undefined || info['role'] === 'master'
    if (!takesWrites) this.follower.forget()
    return takesWrites
  }
}

const followers = new WeakMap<object, Follower>()

/** The follower of a connection that Tollgate made, or of its duplicates; undefined for a client that was given. */
export function followerOf(client: Redis): Follower | undefined {
  const { Connector } = client.options
  return Connector === undefined ? undefined : followers.get(Connector)
}

/** The options of a connection that follows the server of a slot. */
export function follow(address: RedisAddress, slot: number): ReturnType<Follower['options']> {
  const follower = new Follower(address, slot)
  const options = follower.options()
  followers.set(options.Connector as object, follower)
  return options
}
