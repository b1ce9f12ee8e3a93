import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

export interface AgentRequest {
  readonly method: string | undefined
  readonly url: string | undefined
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface TestAgent {
  readonly url: string
  /** In the order in which they were complete. */
  readonly requests: readonly AgentRequest[]
}

/**
 * An HTTP agent for one test: a real server, closed when the test has finished.
 * @param answer answers a request, which is the last of `requests`; `count` is its number, from 1
 */
export async function startAgent(answer: (response: ServerResponse, count: number, request: AgentRequest) => void): Promise<TestAgent> {
  const requests: AgentRequest[] = []
  const server = createServer((incoming, response) => {
    let body = ''
    incoming.setEncoding('utf8')
    incoming.on('data', (chunk: string) => {
      body += chunk
    })
    incoming.on('end', () => {
      const request = { method: incoming.method, url: incoming.url, headers: incoming.headers, body }
      answer(response, requests.push(request), request)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests }
}

/** Answers with JSON. */
export function json(response: ServerResponse, value: unknown, status = 200, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value))
}
