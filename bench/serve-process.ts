import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { pino } from 'pino'
import { Server } from '../src/http/server.js'
import { serverSettings } from '../src/http/server-settings.js'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { serve } from './lib/processes.js'

// The server of `tollgate serve`, with one agent.
const { redis, namespace, rules, baseUrl } = JSON.parse(process.argv[2] ?? '{}') as { redis: string; namespace: string; rules: RuleSpec[]; baseUrl: string }
const log = pino({ level: 'silent' })
const tollgate = await Tollgate.open({ redis, namespace, rules, logger: log })
const settings = serverSettings.parse({ port: 0, maxRequestsPerSecond: 1_000_000 })
const server = new Server({ tollgate, settings, log, version: '0', agents: { llm: { baseUrl } }, environment: {} })
const url = await server.start()
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

serve(
  {
    ready: () => null,
    url: () => url,
    /** How many clients are held. */
    held: () => server.held,
    /** The memory in use, in bytes, after what is free was collected. */
    memory: async () => {
      for (let n = 0; n < 3; n++) {
        collect()
        await sleep(50)
      }
      const { heapUsed, external } = process.memoryUsage()
      return heapUsed + external
    },
    cpu: () => process.cpuUsage(),
  },
  async () => {
    await server.close()
    await tollgate.close()
  },
)
