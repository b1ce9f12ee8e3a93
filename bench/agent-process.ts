import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from './lib/processes.js'

// An agent that answers at once and keeps the arrival of each request, by its own clock.
let arrivals: { at: number; name: string }[] = []
const server = createServer((request, response) => {
  arrivals.push({ at: performance.timeOrigin + performance.now(), name: request.url ?? '' })
  request.resume()
  response.end('{}')
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => {
  serve(
    {
      ready: () => null,
      port: () => (server.address() as AddressInfo).port,
      arrivals: () => {
        const taken = arrivals
        arrivals = []
        return taken
      },
    },
    async () => {
      server.closeAllConnections()
    },
  )
})
