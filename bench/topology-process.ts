import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Redis } from 'ioredis'
import { Tollgate } from '../src/index.js'
import { serve } from './lib/processes.js'

/** What the Tollgates of a process's tenants cost it, each. */
export interface OpenCost {
  readonly mb: number
  readonly connections: number
  readonly ms: number
}

// Opens a Tollgate for each of many tenants, and answers what one costs.
const { redis: url, shared } = JSON.parse(process.argv[2] ?? '{}') as { redis: string; shared: boolean }
setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void
const rules = [
  { name: 'user', scope: 'user' as const, limits: [{ requests: 1000, per: 'minute' as const }] },
  { name: 'account', scope: 'agent' as const, limits: [{ tokens: 1e6, per: 'hour' as const }] },
]
const client = new Redis(url, { maxRetriesPerRequest: null })
const tollgates: Tollgate[] = []

async function open(namespace: string): Promise<void> {
  const tollgate = await Tollgate.open({ redis: shared ? client : url, namespace, rules })
  tollgates.push(tollgate)
  const grant = await tollgate.gate.admit({ agent: 'a', user: 'u' })
  await grant.release()
}

async function residentMb(): Promise<number> {
  for (let n = 0; n < 3; n++) {
    collectGarbage()
    await new Promise((resolve) => setImmediate(resolve))
  }
  return process.memoryUsage().rss / 1e6
}

const connections = async () => Number(/connected_clients:(\d+)/.exec(await client.info('clients'))?.[1])

async function openAll(namespaces: readonly string[]): Promise<OpenCost> {
  const [first = '', ...others] = namespaces
  // The first one loads what all use.
  await open(first)
  const before = { mb: await residentMb(), connections: await connections(), ms: performance.now() }
  for (const namespace of others) await open(namespace)
  const ms = performance.now() - before.ms
  const each = (sum: number) => sum / others.length
  return { mb: each((await residentMb()) - before.mb), connections: each((await connections()) - before.connections), ms: each(ms) }
}

serve({ ready: () => null, open: (namespaces) => openAll(namespaces as readonly string[]) }, async () => {
  await Promise.all(tollgates.map((tollgate) => tollgate.close()))
  client.disconnect()
})
