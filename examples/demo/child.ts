import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** How long a child may take to end its calls before it is killed. */
const STOP_TIMEOUT_MS = 5000

/** A process of the demo. It ends when its IPC channel closes: by stop(), or because this process has died. */
export class Child<Message> {
  private readonly child: ChildProcess
  private readonly ended: Promise<number | null>
  private stopping = false

  /** @param file the module, relative to this one */
  constructor(file: string, args: readonly string[], onMessage: (message: Message) => void, onDeath: (error: Error) => void) {
    this.child = fork(fileURLToPath(new URL(file, import.meta.url)), args)
    this.child.on('message', (message) => onMessage(message as Message))
    this.ended = new Promise((resolve) => {
      this.child.once('error', onDeath)
      this.child.once('exit', (code, signal) => {
        if (!this.stopping) onDeath(new Error(`${file} ended by itself (${signal ?? `exit code ${code}`})`))
        resolve(code)
      })
    })
  }

  async stop(): Promise<void> {
    this.stopping = true
    if (this.child.connected) this.child.disconnect()
    const killTimer = setTimeout(() => this.child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    await this.ended
    clearTimeout(killTimer)
  }
}
