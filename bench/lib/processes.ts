import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** A process of a benchmark that answers requests over IPC. */
export class Helper {
  private readonly child: ChildProcess
  private readonly answers = new Map<number, (value: unknown) => void>()
  private count = 0

  private constructor(child: ChildProcess) {
    this.child = child
    child.on('message', (message: { id: number; value: unknown }) => {
      this.answers.get(message.id)?.(message.value)
      this.answers.delete(message.id)
    })
    child.on('exit', (code) => {
      if (code !== 0 && code !== null) {
        console.error(`a process of the benchmark ended with ${code}`)
        process.exit(1)
      }
    })
  }

  /** Starts a file of this folder's parent and waits until it is ready. */
  static async start(file: string, options: Record<string, unknown>): Promise<Helper> {
    const child = fork(fileURLToPath(new URL(`../${file}.js`, import.meta.url)), [JSON.stringify(options)], { serialization: 'advanced' })
    const helper = new Helper(child)
    await helper.ask('ready')
    return helper
  }

  ask<T>(what: string, value?: unknown): Promise<T> {
    const id = ++this.count
    return new Promise((resolve) => {
      this.answers.set(id, resolve as (answer: unknown) => void)
      this.child.send({ id, what, value })
    })
  }

  async stop(): Promise<void> {
    this.child.send({ id: 0, what: 'stop' })
    await once(this.child, 'exit')
  }
}

/** The other side: serves the requests of the benchmark until it says stop. */
export function serve(handlers: Record<string, (value: unknown) => unknown>, stop: () => Promise<void>): void {
  process.on('message', (message: { id: number; what: string; value: unknown }) => {
    if (message.what === 'stop') {
      void stop().then(() => process.exit(0))
      return
    }
    void Promise.resolve(handlers[message.what]?.(message.value)).then((value) => process.send?.({ id: message.id, value }))
  })
}
