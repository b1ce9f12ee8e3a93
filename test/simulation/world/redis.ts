import { type BlockingRead, blockingRead, TIMED_OUT } from './blocking.js'
import { commandName } from './command-names.js'
import type { SentCommand, SimConnection } from './connection.js'
import { HEALTHY, Network } from './network.js'
import { hashOf } from './random.js'
import { bulk, elementsOf, isError, push } from './resp.js'
import type { RealServer, Snapshot, WayToRefuse } from './server.js'
import type { World } from './world.js'

/** Commands after which a blocking read may find something. */
const MAY_WAKE: ReadonlySet<string> = new Set(['EVALSHA', 'EVAL', 'FCALL', 'EXEC', 'XADD', 'ZADD', 'DEL', 'LPUSH', 'RPUSH'])
/** Their answers hold versions and addresses. */
const NOT_IN_JOURNAL: ReadonlySet<string> = new Set(['HELLO', 'INFO', 'CLIENT'])
/** Errors that are part of how scripts are sent. */
const EXPECTED_ERRORS = /^-(NOSCRIPT|ERR Function not found|ERR Library .* already exists|ERR unknown subcommand|ERR Unknown subcommand)/

interface Blocked {
  readonly connection: SimConnection
  readonly read: BlockingRead
  /** Commands that the client sent behind it. */
  readonly behind: SentCommand[]
}

/** Redis has done a command: what a fault may wait for. */
export interface Done {
  readonly command: SentCommand
  /** The script's name for a call of a script, else the command's. */
  readonly name: string
  /** How many commands of this process Redis has done. */
  readonly count: number
  readonly replies: readonly Buffer[]
}

/**
 * The Redis of the fleet: one real server, to which the commands of all simulated connections go one at a time. Blocking reads are asked again by this
 * class, published messages are handed on to the connections that subscribed.
 */
export class SimRedis {
  readonly network = new Network(HEALTHY)
  readonly connections = new Set<SimConnection>()
  /** Connections are refused until then. */
  downUntilMs = 0
  /** Redis reads no command until then; connections stay. */
  silentUntilMs = 0
  /** How far Redis' clock was from the true one, from when on. */
  private readonly skews: { readonly fromMs: number; readonly skewMs: number }[] = [{ fromMs: Number.NEGATIVE_INFINITY, skewMs: 0 }]
  commands = 0
  private refusing: WayToRefuse | undefined
  onDone: ((done: Done) => void) | undefined
  private readonly blocked: Blocked[] = []
  private readonly counts = new Map<string, number>()

  constructor(
    private readonly world: World,
    readonly server: RealServer,
  ) {}

  /** How far Redis' clock is from the true one. */
  get clockSkewMs(): number {
    return this.skews.at(-1)?.skewMs ?? 0
  }

  set clockSkewMs(skewMs: number) {
    this.skews.push({ fromMs: this.world.nowMs, skewMs })
  }

  /** The true time at which Redis' clock showed another, the last one: an answer may come after the clock was set. */
  trueMs(clockMs: number): number {
    const shown = this.skews.findLast(({ fromMs, skewMs }) => clockMs - skewMs >= fromMs && clockMs - skewMs <= this.world.nowMs + 1)
    return clockMs - (shown?.skewMs ?? this.clockSkewMs)
  }

  /** The time by Redis' clock. */
  get clockMs(): number {
    return this.world.nowMs + this.clockSkewMs
  }

  /** A command has arrived. */
  receive(command: SentCommand): void | Promise<void> {
    const { silentUntilMs } = this
    if (silentUntilMs > this.world.nowMs) {
      this.world.at(silentUntilMs, null, command.name, () => this.receive(command))
      return
    }
    const blocked = this.blocked.find(({ connection }) => connection === command.connection)
    if (blocked !== undefined) {
      blocked.behind.push(command)
      return
    }
    return this.execute(command)
  }

  /** A connection is gone: its blocking read ends, its subscriptions too. */
  disconnected(connection: SimConnection): void {
    this.connections.delete(connection)
    const at = this.blocked.findIndex((blocked) => blocked.connection === connection)
    if (at >= 0) this.unblock(this.blocked[at] as Blocked)
  }

  private async execute(command: SentCommand): Promise<void> {
    const { connection, name } = command
    this.commands++
    if (name === 'SUBSCRIBE' || name === 'UNSUBSCRIBE') {
      this.subscribe(command)
      return
    }
    if (name === 'QUIT') {
      connection.reply(Buffer.from('+OK\r\n'))
      connection.closeByServer()
      return
    }
    const read = blockingRead(name, command.args)
    const again = MAY_WAKE.has(name) ? this.blocked.slice() : []
    this.server.setClock(this.clockMs)
    const bytes = Buffer.concat([read?.bytes ?? command.bytes, ...again.map((blocked) => blocked.read.bytes)])
    const { replies, pushes } = await this.server.send(bytes, command.replies + again.length)
    const own = replies.slice(0, command.replies)
    this.note(command, own)
    if (read === undefined) connection.reply(own.length === 1 ? (own[0] as Buffer) : Buffer.concat(own))
    else this.block(connection, read, own[0] as Buffer)
    for (const [index, blocked] of again.entries()) this.answerBlocked(blocked, replies[command.replies + index] as Buffer)
    for (const message of pushes) this.publish(message)
    this.done(command, own)
  }

  private block(connection: SimConnection, read: BlockingRead, reply: Buffer): void {
    const answer = read.answerOf(reply)
    if (answer !== undefined) {
      connection.reply(answer)
      return
    }
    const blocked: Blocked = { connection, read, behind: [] }
    this.blocked.push(blocked)
    if (read.blockMs === 0) return
    this.world.at(this.world.nowMs + read.blockMs, null, 'blocked for long enough', () => {
      if (!this.blocked.includes(blocked)) return
      connection.reply(TIMED_OUT)
      this.unblock(blocked)
    })
  }

  private answerBlocked(blocked: Blocked, reply: Buffer): void {
    const answer = blocked.read.answerOf(reply)
    if (answer === undefined || !this.blocked.includes(blocked)) return
    blocked.connection.reply(answer)
    this.unblock(blocked)
  }

  private unblock(blocked: Blocked): void {
    this.blocked.splice(this.blocked.indexOf(blocked), 1)
    for (const command of blocked.behind) this.world.at(this.world.nowMs, null, command.name, () => this.receive(command))
  }

  private subscribe({ connection, name, args }: SentCommand): void {
    for (const channel of args.slice(1)) {
      if (name === 'SUBSCRIBE') connection.channels.add(channel.toString())
      else connection.channels.delete(channel.toString())
      connection.reply(push([bulk(Buffer.from(name.toLowerCase())), bulk(channel), Buffer.from(`:${connection.channels.size}\r\n`)]))
    }
  }

  private publish(message: Buffer): void {
    const [, , channel, text] = elementsOf(message) as [Buffer, Buffer, Buffer, Buffer]
    const name = channel.toString()
    for (const connection of this.connections) {
      if (connection.channels.has(name)) connection.reply(push([bulk(Buffer.from('message')), bulk(channel), bulk(text)]))
    }
  }

  private note({ connection, name, args, bytes }: SentCommand, replies: readonly Buffer[]): void {
    const failed = replies.find((reply) => isError(reply) && !EXPECTED_ERRORS.test(reply.toString('latin1', 0, 80)))
    const { process } = connection
    if (failed !== undefined)
      this.world.note(process.name, `${connection.name} ${commandName(name, args)} is refused: ${failed.toString('latin1', 1, 160).trim()}`)
    if (NOT_IN_JOURNAL.has(name)) return
    const text = `${connection.name} ${commandName(name, args)} ${hashOf(bytes).toString(36)} → ${replies.map((reply) => hashOf(reply).toString(36)).join()}`
    this.world.note(
      process.name,
      text,
      this.world.journal.keepsDetails ? `${bytes.toString('latin1')}\u0000${replies.map((reply) => reply.toString('latin1')).join('')}` : undefined,
    )
  }

  private done(command: SentCommand, replies: readonly Buffer[]): void {
    const { process } = command.connection
    const count = (this.counts.get(process.name) ?? 0) + 1
    this.counts.set(process.name, count)
    this.onDone?.({ command, name: commandName(command.name, command.args), count, replies })
  }

  // ---- what faults do

  takeSnapshot(): Promise<Snapshot> {
    return this.server.snapshot(this.world.nowMs)
  }

  /** Another server takes over that has not got the last commands: the keys become older, all connections break. */
  async failOver(snapshot: Snapshot, downMs: number): Promise<void> {
    this.downUntilMs = this.world.nowMs + downMs
    this.server.setClock(this.clockMs)
    // A server that refuses writes would refuse the snapshot, too.
    await this.server.refuseWrites(undefined)
    await this.server.restore(snapshot)
    await this.server.refuseWrites(this.refusing)
    this.world.note('redis', `fails over to its state of ${(this.world.nowMs - snapshot.atMs).toFixed(1)} ms ago`)
    for (const connection of [...this.connections]) connection.cut(false)
  }

  /** Redis restarts without its data. */
  async restartEmpty(downMs: number): Promise<void> {
    this.downUntilMs = this.world.nowMs + downMs
    await this.server.clear()
    this.world.note('redis', 'restarts without its data')
    for (const connection of [...this.connections]) connection.cut(false)
  }

  /** @param way how; undefined: it takes them again */
  async refuseWrites(way: WayToRefuse | undefined): Promise<void> {
    this.refusing = way
    await this.server.refuseWrites(way)
    this.world.note('redis', way === undefined ? 'takes writes again' : `refuses writes (${way})`)
  }

  async flushFunctions(): Promise<void> {
    // A server that refuses writes would refuse this, too.
    await this.server.refuseWrites(undefined)
    await this.server.ask(['FUNCTION', 'FLUSH', 'SYNC'])
    await this.server.refuseWrites(this.refusing)
    this.world.note('redis', 'loses its functions')
  }
}
