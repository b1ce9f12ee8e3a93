import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from './lib/processes.js'

// An agent with its own limit, a token bucket: above it, it answers 429 with retry-after-ms.
const { perSecond, burst, latencyMs } = JSON.parse(process.argv[2] ?? '{}') as { perSecond: number; burst: number; latencyMs: number }
const answers: { at: number; status: number }[] = []
let tokens = burst
let lastAt = performance.now()

const server = createServer((request, response) => {
  const at = performance.now()
  tokens = Math.min(burst, tokens + ((at - lastAt) / 1000) * perSecond)
  lastAt = at
  request.resume()
  const served = tokens >= 1
  if (served) tokens--
  answers.push({ at, status: served ? 200 : 429 })
  if (!served) response.writeHead(429, { 'retry-after-ms': String(Math.ceil(((1 - tokens) / perSecond) * 1000)) })
  setTimeout(() => response.end('{}'), served ? latencyMs : 0)
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => {
  serve({ ready: () => null, port: () => (server.address() as AddressInfo).port, answers: () => answers }, async () => {
    server.closeAllConnections()
  })
})
