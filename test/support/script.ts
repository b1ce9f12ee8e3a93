import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'

const root = dirname(createRequire(import.meta.url).resolve('tollgate/package.json'))

/** A user's process: plain JavaScript that imports the compiled package, with no environment but the given one. */
export class Script {
  private readonly child: ChildProcess
  output = ''
  /** Its standard error, where the log goes. */
  errors = ''

  constructor(code: string, environment: Record<string, string> = {}) {
    const text = `import { Tollgate } from 'tollgate'\n${code}`
    this.child = spawn(process.execPath, ['--input-type=module', '-e', text], {
      cwd: root,
      env: { PATH: process.env['PATH'], ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.child.stdout?.on('data', (chunk: Buffer) => {
      this.output += chunk.toString()
    })
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.errors += chunk.toString()
    })
  }

  /** Kills the process, and waits until it is gone. */
  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    this.child.kill(signal)
    await once(this.child, 'exit')
  }

  /** Waits until the process ends. @returns the JSON that it printed. @throws Error where its exit code is not 0 */
  async result(): Promise<unknown> {
    if (this.child.exitCode === null) await once(this.child, 'close')
    if (this.child.exitCode !== 0) throw new Error(`the script ended with ${this.child.exitCode}: ${this.errors}`)
    return JSON.parse(this.output)
  }
}
