import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Agent } from './agent.js'
import { failure, type HttpAnswer } from './answers.js'

async function read(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return Buffer.concat(parts).toString('utf8')
}

async function route(agent: Agent, request: IncomingMessage): Promise<HttpAnswer> {
  const body = await read(request)
  switch (`${request.method} ${request.url}`) {
    case 'POST /v1/chat/completions':
      return agent.answer('chat', body)
    case 'POST /v1/messages':
      return agent.answer('messages', body)
    case 'POST /v1/responses':
      return agent.answer('responses', body)
    case 'POST /v1/embeddings':
      return agent.answer('embeddings', body)
    case 'GET /stats':
      return { status: 200, headers: {}, body: agent.counters }
    default:
      return failure(404, 'invalid_request_error', 'unknown_url', `Unknown request URL: ${request.method} ${request.url}`)
  }
}

async function serve(agent: Agent, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const { status, headers, body, stream } = await route(agent, request)
    if (stream !== undefined) {
      response.writeHead(status, { 'content-type': 'text/event-stream', ...headers })
      for (const event of stream.events) {
        if (response.destroyed) return
        response.write(event)
        if (stream.everyMs > 0) await sleep(stream.everyMs)
      }
      response.end()
      return
    }
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
  } catch {
    // The client went away in the middle of its request.
    response.destroy()
  }
}

/** The agent over HTTP, in the forms of OpenAI (chat, responses, embeddings) and Anthropic (messages), and GET /stats. */
export function agentServer(agent: Agent): Server {
  const server = createServer((request, response) => void serve(agent, request, response))
  // Longer than clients keep idle connections: no request may meet a connection that the server is closing.
  server.keepAliveTimeout = 120_000
  return server
}
