import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setTimeout } from 'node:timers/promises'

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
      let sent: Promise<unknown> = Promise.resolve()
      upstream.on('data', (chunk: Buffer) => {
        // Answers keep their order where `delayMs` gets shorter: a client takes them for those of its commands in turn.
        const due = setTimeout(proxy.delayMs)
        sent = sent.then(() => due).then(() => client.writable && client.write(chunk))
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
