import { Duplex } from 'node:stream'
import type { Held, SimProcess } from './process.js'
import type { Random } from './random.js'
import type { SimRedis } from './redis.js'
import { elementsOf, Messages } from './resp.js'
import type { World } from './world.js'

/** A command on its way, or a whole transaction. */
export interface SentCommand {
  readonly connection: SimConnection
  /** Its name, in capitals; EXEC for a transaction. */
  readonly name: string
  readonly args: readonly Buffer[]
  readonly bytes: Buffer
  readonly replies: number
}

/** The end of a connection that the client holds. ioredis takes it for a TCP socket. */
class ClientSocket extends Duplex {
  connecting = true

  constructor(private readonly connection: SimConnection) {
    super({ allowHalfOpen: false })
  }

  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.connection.sent(chunk)
    done()
  }
  override _final(done: () => void): void {
    this.connection.closeByClient()
    done()
  }
  setNoDelay(): this {
    return this
  }
  setKeepAlive(): this {
    return this
  }
  setTimeout(): this {
    return this
  }
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }
}

/**
 * A connection of one process to Redis, in memory. Commands arrive, and replies are delivered, in their order, each after a drawn delay; each is an
 * event of the world. Where a connection breaks, commands that Redis has not read and replies that were not delivered are lost, and ioredis sends
 * again what was not answered: a command may be done twice.
 */
export class SimConnection implements Held {
  readonly socket: ClientSocket
  readonly name: string
  /** The channels that it listens to. */
  readonly channels = new Set<string>()
  /** Whether replies still reach the client. */
  private open = true
  /** Whether Redis still reads what was sent. */
  private readable = true
  private readonly messages = new Messages()
  private readonly random: Random
  private arrivesAtMs = 0
  private deliversAtMs = 0
  private transaction: { readonly name: string; readonly bytes: Buffer }[] | undefined

  constructor(
    private readonly world: World,
    private readonly redis: SimRedis,
    readonly process: SimProcess,
  ) {
    this.name = `c${++process.connections}`
    this.random = world.chance.stream(`network ${process.name} ${this.name}`)
    this.socket = new ClientSocket(this)
    process.held.add(this)
    redis.connections.add(this)
    world.at(world.nowMs + this.delayMs(), process, 'connected', () => {
      if (redis.downUntilMs > world.nowMs) {
        this.forget()
        this.socket.destroy(Object.assign(new Error('connect ECONNREFUSED (simulated)'), { code: 'ECONNREFUSED' }))
        return
      }
      this.socket.connecting = false
      this.socket.emit('connect')
    })
  }

  /** Bytes from the client: each whole command becomes an event. */
  sent(chunk: Buffer): void {
    if (!this.open) return
    for (const bytes of this.messages.add(chunk)) {
      const args = elementsOf(bytes)
      const name = (args[0] as Buffer).toString('latin1').toUpperCase()
      if (name === 'MULTI') this.transaction = []
      if (this.transaction === undefined) {
        this.send({ connection: this, name, args, bytes, replies: 1 })
        continue
      }
      this.transaction.push({ name, bytes })
      if (name !== 'EXEC') continue
      const parts = this.transaction
      this.transaction = undefined
      this.send({ connection: this, name, args, bytes: Buffer.concat(parts.map((part) => part.bytes)), replies: parts.length })
    }
  }

  private send(command: SentCommand): void {
    this.arrivesAtMs = Math.max(this.arrivesAtMs, this.world.nowMs + this.delayMs(), this.redis.silentUntilMs)
    this.world.at(this.arrivesAtMs, null, command.name, () => (this.readable ? this.redis.receive(command) : undefined))
  }

  /** Bytes from Redis: delivered after a delay, if the connection still is. */
  reply(bytes: Buffer): void {
    if (!this.open) return
    this.deliversAtMs = Math.max(this.deliversAtMs, this.world.nowMs + this.delayMs())
    this.world.at(this.deliversAtMs, this.process, 'reply', () => {
      if (this.open) this.socket.push(bytes)
    })
  }

  /** Redis closes the connection, after the replies that are under way. */
  closeByServer(): void {
    this.world.at(this.deliversAtMs + 0.01, this.process, 'closed', () => {
      this.forget()
      this.socket.push(null)
      this.socket.destroy()
    })
  }

  closeByClient(): void {
    this.release(true)
    this.world.at(this.world.nowMs + this.delayMs(), this.process, 'closed', () => {
      this.socket.push(null)
      this.socket.destroy()
    })
  }

  /** The client is gone, or believes that the connection is. */
  release(arrives: boolean): void {
    this.readable = arrives
    this.forget()
  }

  /** The connection breaks. @param arrives whether Redis still reads what is under way */
  cut(arrives: boolean): void {
    if (!this.open) return
    this.release(arrives)
    this.world.note(this.process.name, `${this.name} is cut`)
    this.world.at(this.world.nowMs + this.delayMs(), this.process, 'cut', () => {
      this.socket.destroy(Object.assign(new Error('read ECONNRESET (simulated)'), { code: 'ECONNRESET' }))
    })
  }

  private forget(): void {
    this.open = false
    this.redis.disconnected(this)
    this.process.held.delete(this)
  }

  private delayMs(): number {
    return this.redis.network.delayMs(this.random)
  }
}

/** What ioredis asks for a connection (its option `Connector`): it survives `duplicate()`, so every connection of the process comes from here. */
export function connectorOf(world: World, redis: SimRedis, process: SimProcess) {
  return class SimConnector {
    connecting = false
    stream: ClientSocket | undefined
    firstError: Error | undefined

    check(): boolean {
      return true
    }

    async connect(): Promise<ClientSocket> {
      this.connecting = true
      // As the connector of ioredis does: listeners are added in this tick.
      await new Promise<void>((resolve) => globalThis.process.nextTick(resolve))
      if (!this.connecting) throw new Error('Connection is closed.')
      this.stream = new SimConnection(world, redis, process).socket
      this.stream.once('error', (error) => {
        this.firstError = error
      })
      return this.stream
    }

    disconnect(): void {
      this.connecting = false
      this.stream?.end()
    }
  }
}
