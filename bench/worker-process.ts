import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { Tollgate, type UpstreamOptions } from '../src/index.js'
import { serve } from './lib/processes.js'

// A worker whose handler calls the agent over HTTP; it counts pickups and finished calls.
const options = JSON.parse(process.argv[2] ?? '{}') as { redis: string; namespace: string; concurrency: number; agent: number; upstream?: UpstreamOptions }
const tollgate = await Tollgate.open({ redis: options.redis, namespace: options.namespace, upstream: options.upstream })
const connections = new Agent({ keepAlive: true, maxSockets: options.concurrency })
let starts: { at: number; name: string; enqueuedAt: number }[] = []
let pickups = 0
let finished = 0

function callAgent(path: string): Promise<{ status: number; headers: IncomingHttpHeaders }> {
  return new Promise((resolve, reject) => {
    const sent = request({ port: options.agent, host: '127.0.0.1', path, agent: connections }, (response) => {
      response.resume()
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers }))
    })
    sent.on('error', reject)
    sent.end()
  })
}

const worker = tollgate.worker(
  async (call, { decision }) => {
    starts.push({ at: decision.atMs, name: call.org ?? '', enqueuedAt: (call.payload as { at?: number } | undefined)?.at ?? 0 })
    const { status, headers } = await callAgent(`/${call.org ?? ''}`)
    if (status !== 200) throw Object.assign(new Error(`the agent answered ${status}`), { status, headers })
    return null
  },
  { concurrency: options.concurrency },
)
worker.bull.on('active', () => pickups++)
worker.bull.on('completed', () => finished++)

serve(
  {
    ready: () => worker.bull.waitUntilReady().then(() => null),
    progress: () => ({ pickups, finished }),
    starts: () => {
      const taken = starts
      starts = []
      return taken
    },
  },
  () => tollgate.close(),
)
