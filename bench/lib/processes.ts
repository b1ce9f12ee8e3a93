import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** A request that has not been answered. */
interface PendingRequest {
  resolve(value: unknown): void
  reject(error: Error): void
}

/** A process of a benchmark that answers requests over IPC. */
export class Helper {
  private static readonly running = new Set<Helper>()
  private readonly pending = new Map<number, PendingRequest>()
  private readonly exited: Promise<void>
  private count = 0
  private ended: Error | undefined

  private constructor(
    file: string,
    private readonly child: ChildProcess,
  ) {
    Helper.running.add(this)
    child.on('message', (message: { id: number; value: unknown; error?: string }) => {
      const request = this.pending.get(message.id)
      this.pending.delete(message.id)
      if (message.error === undefined) request?.resolve(message.value)
      else request?.reject(new Error(`${file}: ${message.error}`))
    })
    this.exited = once(child, 'exit').then(([code, signal]) => {
      Helper.running.delete(this)
      this.ended = new Error(`${file}, a process of the benchmark, ended (${code ?? signal})`)
      for (const { reject } of this.pending.values()) reject(this.ended)
      this.pending.clear()
    })
  }

  /** Starts a file of bench/ and waits until it is ready. */
  static async start(file: string, options: Record<string, unknown>): Promise<Helper> {
    const child = fork(fileURLToPath(new URL(`../${file}.js`, import.meta.url)), [JSON.stringify(options)], { serialization: 'advanced' })
    const helper = new Helper(file, child)
    await helper.request('ready')
    return helper
  }

  /** Stops every helper, also those that a failed benchmark has left running. */
  static async stopAll(): Promise<void> {
    await Promise.all([...Helper.running].map((helper) => helper.stop()))
  }

  request<T>(what: string, value?: unknown): Promise<T> {
    if (this.ended !== undefined) return Promise.reject(this.ended)
    const id = ++this.count
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve: resolve as (answer: unknown) => void, reject })
      this.child.send({ id, what, value })
    })
  }

  /** SIGSTOP, SIGCONT or SIGKILL, as an operating system would send it. */
  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }

  async stop(): Promise<void> {
    if (this.ended === undefined) this.child.kill('SIGCONT')
    if (this.ended === undefined && this.child.connected) this.child.send({ id: 0, what: 'stop' })
    await this.exited
  }
}

/** In the helper process: answers the requests of the benchmark until it sends 'stop'. */
export function serve(handlers: Record<string, (value: unknown) => unknown>, stop: () => Promise<void>): void {
  // The benchmark has died, and cannot send 'stop' any more.
  process.once('disconnect', () => process.exit(1))
  const answer = async (message: { id: number; what: string; value: unknown }) => {
    try {
      process.send?.({ id: message.id, value: await handlers[message.what]?.(message.value) })
    } catch (error) {
      process.send?.({ id: message.id, error: error instanceof Error ? error.message : String(error) })
    }
  }
  process.on('message', (message: { id: number; what: string; value: unknown }) => {
    if (message.what === 'stop') void stop().finally(() => process.exit(0))
    else void answer(message)
  })
}
