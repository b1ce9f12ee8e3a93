import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A proxy before a Redis that delays every answer by `delayMs`. */
export class SlowProxy {
  /** May change at any time. */
  delayMs = 0
  readonly url: string
  private readonly sockets: Set<Socket>
  private readonly end: () => Promise<void>

  private constructor(url: string, sockets: Set<Socket>, end: () => Promise<void>) {
    this.url = url
    this.sockets = sockets
    this.end = end
  }

  static async start(target: string): Promise<SlowProxy> {
    const { hostname, port } = new URL(target)
    const sockets = new Set<Socket>()
    const server = createServer((client) => {
      const upstream = connect(Number(port), hostname)
      for (const socket of [client, upstream]) {
        sockets.add(socket)
        socket.on('error', () => {})
        socket.on('close', () => {
          sockets.delete(socket)
          client.destroy()
          upstream.destroy()
        })
      }
      client.pipe(upstream)
      upstream.on('data', (chunk: Buffer) => {
        // Timers of one length fire in the order they were set: answers keep their order while `delayMs` stays.
        setTimeout(() => client.writable && client.write(chunk), proxy.delayMs)
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxy = new SlowProxy(`redis://127.0.0.1:${(server.address() as AddressInfo).port}`, sockets, async () => {
      server.close()
      await once(server, 'close')
    })
    return proxy
  }

  /** Breaks every connection. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy()
  }

  async stop(): Promise<void> {
    const ended = this.end()
    this.cut()
    await ended
  }
}
