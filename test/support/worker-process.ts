import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const root = dirname(createRequire(import.meta.url).resolve('tollgate/package.json'))

/** The compiled entry file of a worker process. */
export const WORKER_ENTRY = join(root, 'dist/workers/agent.js')

/** A worker as users run it: a process of its own, from the compiled entry file. */
export class WorkerProcess {
  private readonly child: ChildProcess
  /** Its log so far: both of its output streams. */
  log = ''

  constructor(flags: Record<string, string | number>) {
    const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)])
    this.child = spawn(process.execPath, [WORKER_ENTRY, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    const append = (chunk: Buffer) => {
      this.log += chunk.toString()
    }
    this.child.stdout?.on('data', append)
    this.child.stderr?.on('data', append)
  }

  get takesCalls(): boolean {
    return this.log.includes('taking calls')
  }

  /** Resolves to its exit code when it ends by itself. */
  async exited(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit')
    return this.child.exitCode
  }

  /** Ends it with a signal; resolves to its exit code, null where the signal ended it. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode
    this.child.kill(signal)
    return this.exited()
  }
}
