import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { freePort } from '../../test/support/free-port.js'

/** A Redis that a benchmark may kill: not the one it was given, which others may use. */
export class OwnRedis {
  readonly url: string
  private readonly program: string
  private readonly port: number
  private readonly folder: string
  private child: ChildProcess | undefined

  private constructor(program: string, port: number, folder: string) {
    this.program = program
    this.port = port
    this.folder = folder
    this.url = `redis://127.0.0.1:${port}`
  }

  /** Undefined where there is no Redis on the `PATH`. */
  static async start(): Promise<OwnRedis | undefined> {
    const program = ['redis-server', 'valkey-server'].find((name) => spawnSync(name, ['--version']).status === 0)
    if (program === undefined) return undefined
    const redis = new OwnRedis(program, await freePort(), await mkdtemp(join(tmpdir(), 'tollgate-bench-')))
    await redis.begin()
    return redis
  }

  async begin(): Promise<void> {
    const flags = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.folder, '--appendonly', 'yes', '--save', '']
    this.child = spawn(this.program, flags, { stdio: 'ignore' })
    const client = new Redis(this.url, { retryStrategy: () => 20, maxRetriesPerRequest: null })
    client.on('error', () => {})
    await client.ping()
    client.disconnect()
  }

  async kill(): Promise<void> {
    if (this.child === undefined || this.child.exitCode !== null || this.child.signalCode !== null) return
    const exited = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await exited
  }

  pause(): void {
    this.child?.kill('SIGSTOP')
  }

  resume(): void {
    this.child?.kill('SIGCONT')
  }

  async stop(): Promise<void> {
    await this.kill()
    await rm(this.folder, { recursive: true, force: true })
  }
}
