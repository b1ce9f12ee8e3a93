import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { realSleep } from './real-node.js'
import { type Argument, command, decode, isError, isPush, Messages, type RespValue } from './resp.js'

/** The beginning of all time in a simulation, in ms. */
export const EPOCH_MS = 1_800_000_000_000

const SNAPSHOT_FILE = 'snapshot.rdb'
/** A snapshot for each so many writes in so many seconds: never. */
const NEVER = '2000000000 1000000000'
/** An address at which no Redis is. */
const NO_MASTER = ['127.0.0.1', '1'] as const

/** Compiled files are two folders deeper than the sources, below `dist`. */
const SHIM = 'test/simulation/world/redis-clock.c'

function projectRoot(): string {
  let folder = path.dirname(fileURLToPath(import.meta.url))
  while (!fs.existsSync(path.join(folder, SHIM))) folder = path.dirname(folder)
  return folder
}

/** Why no simulation can run here; undefined where it can. */
export function missingPart(): string | undefined {
  if (process.platform !== 'linux') return `the simulation gives redis-server a clock by LD_PRELOAD, which needs Linux (this is ${process.platform})`
  if (spawnSync('cc', ['--version']).status !== 0)
    return 'the simulation compiles a clock for redis-server and needs a C compiler: install gcc, so that `cc` is on the PATH'
  if (spawnSync('redis-server', ['--version']).status !== 0) return 'the simulation needs redis-server on the PATH'
  return undefined
}

/** How a Redis that is up refuses writes, by the first word of its errors: with OOM it takes those that give memory back, otherwise none. */
export const WAYS_TO_REFUSE = ['OOM', 'NOREPLICAS', 'READONLY', 'MISCONF'] as const
export type WayToRefuse = (typeof WAYS_TO_REFUSE)[number]

/** All keys of a Redis at one time, with the ends of their lives. */
export interface Snapshot {
  readonly atMs: number
  /** Key, expiry in ms since the epoch (-1: none), serialized value; three elements per key. */
  readonly keys: readonly Buffer[]
}

interface Sent {
  readonly expected: number
  readonly replies: Buffer[]
  readonly pushes: Buffer[]
  readonly done: (answer: Answer) => void
}

export interface Answer {
  readonly replies: readonly Buffer[]
  /** What was published meanwhile. */
  readonly pushes: readonly Buffer[]
}

const ALL_KEYS = `
  local out, keys = {}, redis.call('KEYS', '*')
  table.sort(keys)
  for _, key in ipairs(keys) do
    out[#out + 1], out[#out + 2], out[#out + 3] = key, tostring(redis.call('PEXPIRETIME', key)), redis.call('DUMP', key)
  end
  return out`

/** A real redis-server on a clock that the simulation sets, with one connection, which sees every message that is published. */
export class RealServer {
  private sent: Sent | undefined
  private subscribed = false
  private readonly messages = new Messages()
  private readonly clockBytes = Buffer.alloc(8)

  private constructor(
    private readonly child: ChildProcess,
    private readonly socket: net.Socket,
    private readonly clockFile: number,
    private readonly folder: string,
  ) {
    process.once('exit', this.end)
    socket.on('data', (chunk: Buffer) => this.receive(chunk))
  }

  static async start(): Promise<RealServer> {
    const missing = missingPart()
    if (missing !== undefined) throw new Error(missing)
    const folder = fs.mkdtempSync(path.join(fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'tollgate-simulation-'))
    const shim = path.join(folder, 'redis-clock.so')
    execFileSync('cc', ['-shared', '-fPIC', '-O2', '-o', shim, path.join(projectRoot(), SHIM), '-ldl'])
    const clock = path.join(folder, 'clock')
    fs.writeFileSync(clock, Buffer.alloc(8))
    const clockFile = fs.openSync(clock, 'r+')
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(BigInt(EPOCH_MS) * 1000n)
    fs.writeSync(clockFile, bytes, 0, 8, 0)
    const address = path.join(folder, 'redis.sock')
    const settings = ['--port', '0', '--unixsocket', address, '--save', '', '--appendonly', 'no', '--enable-debug-command', 'yes', '--activerehashing', 'no']
    const child = spawn('redis-server', [...settings, '--dir', folder, '--dbfilename', SNAPSHOT_FILE], {
      env: { ...process.env, LD_PRELOAD: shim, SIM_CLOCK: clock },
      stdio: 'ignore',
    })
    const server = new RealServer(child, await connected(address), clockFile, folder)
    // RESP3 carries published messages beside replies. The subscription itself is answered by a push.
    await server.do(['HELLO', '3'])
    server.socket.write(command(['PSUBSCRIBE', '*']))
    while (!server.subscribed) await realSleep(1)
    await server.do(['DEBUG', 'SET-ACTIVE-EXPIRE', '0'])
    await server.failToSave()
    return server
  }

  /** Once a snapshot could not be written, Redis refuses writes as soon as it is told to make snapshots (MISCONF). A folder stands where its file would go. */
  private async failToSave(): Promise<void> {
    fs.mkdirSync(path.join(this.folder, SNAPSHOT_FILE))
    await this.ask(['BGSAVE'])
    while (!String(await this.ask(['INFO', 'persistence'])).includes('rdb_last_bgsave_status:err')) await realSleep(10)
  }

  setClock(ms: number): void {
    this.clockBytes.writeBigUInt64LE(BigInt(Math.floor(ms * 1000)))
    fs.writeSync(this.clockFile, this.clockBytes, 0, 8, 0)
  }

  /** Sends commands that have so many replies together. One send at a time. */
  send(bytes: Buffer, expected: number): Promise<Answer> {
    return new Promise((done) => {
      this.sent = { expected, replies: [], pushes: [], done }
      this.socket.write(bytes)
    })
  }

  async do(args: readonly Argument[]): Promise<Buffer> {
    return (await this.send(command(args), 1)).replies[0] as Buffer
  }

  /** @throws where Redis answers with an error */
  async ask(args: readonly Argument[], binary = false): Promise<RespValue> {
    return decode(await this.do(args), binary)
  }

  async snapshot(atMs: number): Promise<Snapshot> {
    return { atMs, keys: ((await this.ask(['EVAL', ALL_KEYS, 0], true)) as Buffer[]).map((bytes) => Buffer.from(bytes)) }
  }

  /** Makes the keys those of a snapshot. Scripts, functions and settings stay. */
  async restore({ keys }: Snapshot): Promise<void> {
    const commands = [command(['FLUSHALL'])]
    for (let at = 0; at < keys.length; at += 3) {
      const [key, expiry, value] = keys.slice(at, at + 3) as [Buffer, Buffer, Buffer]
      commands.push(command(['RESTORE', key, Math.max(0, Number(expiry.toString())), value, 'ABSTTL']))
    }
    const { replies } = await this.send(Buffer.concat(commands), commands.length)
    const failed = replies.find(isError)
    if (failed !== undefined) throw new Error(`a snapshot could not be restored: ${failed}`)
  }

  /** As a Redis that was just started. */
  async clear(): Promise<void> {
    await this.refuseWrites(undefined)
    for (const args of [['FLUSHALL'], ['SCRIPT', 'FLUSH', 'SYNC'], ['FUNCTION', 'FLUSH', 'SYNC']]) await this.ask(args)
  }

  /**
   * Redis refuses writes: with its memory limited to a byte, as one that is full; without the replica that it is told to have; as the replica of a
   * master that is away, which another server has taken the place of; and as one whose disk takes no snapshots.
   */
  async refuseWrites(way: WayToRefuse | undefined): Promise<void> {
    const when = (one: WayToRefuse, then: string, otherwise: string) => (way === one ? then : otherwise)
    await this.ask(['REPLICAOF', ...(way === 'READONLY' ? NO_MASTER : ['NO', 'ONE'])])
    const settings = { maxmemory: when('OOM', '1', '0'), 'min-replicas-to-write': when('NOREPLICAS', '1', '0'), save: when('MISCONF', NEVER, '') }
    await this.ask(['CONFIG', 'SET', ...Object.entries(settings).flat()])
  }

  stop(): void {
    process.off('exit', this.end)
    this.socket.destroy()
    fs.closeSync(this.clockFile)
    this.end()
  }

  private readonly end = () => {
    this.child.kill('SIGKILL')
    fs.rmSync(this.folder, { recursive: true, force: true })
  }

  private receive(chunk: Buffer): void {
    const { sent } = this
    if (sent === undefined) {
      // Only the answer of the subscription comes unasked. Redis writes a reply and what was published with it at once; were that not so, runs would differ.
      if (this.subscribed) throw new Error(`redis-server sent ${chunk.length} bytes after its reply`)
      this.subscribed = true
      return
    }
    for (const message of this.messages.add(chunk)) (isPush(message) ? sent.pushes : sent.replies).push(message)
    if (sent.replies.length < sent.expected) return
    this.sent = undefined
    sent.done(sent)
  }
}

async function connected(address: string): Promise<net.Socket> {
  for (let tries = 0; tries < 200; tries++) {
    const socket = net.connect(address)
    const answered = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true))
      socket.once('error', () => resolve(false))
    })
    if (answered) return socket
    await realSleep(25)
  }
  throw new Error('redis-server did not start')
}
