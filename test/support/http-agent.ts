import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A real HTTP agent of a test's own. */
export interface TestAgent {
  readonly url: string
  /** How many requests came. */
  requests(): number
  stop(): Promise<void>
}

/** @param answer what it does with each request, by its number from 1 */
export async function startAgent(answer: (request: IncomingMessage, response: ServerResponse, count: number, body: string) => void): Promise<TestAgent> {
  let count = 0
  const server: Server = createServer((request, response) => {
    const number = ++count
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString()
    })
    request.on('end', () => answer(request, response, number, body))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: () => count,
    stop: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
