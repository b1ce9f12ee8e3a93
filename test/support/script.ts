import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'

const root = dirname(createRequire(import.meta.url).resolve('tollgate/package.json'))

/** A process of a user's own: plain JavaScript with the compiled package, and nothing in its environment but what it is given. */
export class Script {
  private readonly child: ChildProcess
  output = ''
  /** Its log. */
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

  /** What it printed, as JSON, when it has ended by itself. */
  async result(): Promise<unknown> {
    if (this.child.exitCode === null) await once(this.child, 'close')
    if (this.child.exitCode !== 0) throw new Error(`the script ended with ${this.child.exitCode}: ${this.errors}`)
    return JSON.parse(this.output)
  }
}
