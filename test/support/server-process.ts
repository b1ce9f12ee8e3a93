import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'
import { until } from './until.js'

const main = join(dirname(createRequire(import.meta.url).resolve('tollgate/package.json')), 'dist/src/cli/main.js')

/** `tollgate serve` as users run it: a process of its own, killed when the test has finished. */
export class ServerProcess {
  private readonly child: ChildProcess
  /** Its log so far: both of its output streams. */
  log = ''

  /** @param node the executable of Node that runs it */
  constructor(flags: Record<string, string | number>, environment: Record<string, string> = {}, node = process.execPath) {
    const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)])
    const env = { PATH: process.env['PATH'], HOME: process.env['HOME'], ...environment }
    this.child = spawn(node, [main, 'serve', '--port', '0', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    const append = (chunk: Buffer) => {
      this.log += chunk.toString()
    }
    this.child.stdout?.on('data', append)
    this.child.stderr?.on('data', append)
    onTestFinished(async () => {
      await this.end('SIGKILL')
    })
  }

  /** Resolves to its address once it serves. */
  async serving(): Promise<string> {
    await until(`it serves:\n${this.log}`, () => this.log.includes('"serving"') || this.child.exitCode !== null)
    const [, url] = /"url":"([^"]+)"/.exec(this.log) ?? []
    if (url === undefined) throw new Error(`it does not serve: ${this.log}`)
    return url
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }

  /** Resolves to its exit code when it has ended; null where a signal ended it. */
  async exited(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit')
    return this.child.exitCode
  }

  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    this.child.kill(signal)
    return this.exited()
  }
}
