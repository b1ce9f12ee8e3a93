import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { Tollgate, type TollgateOptions } from '../src/index.js'
import { serve } from './lib/processes.js'

// Asks the gate at a steady rate, whatever it is answered, and says what that was and how long it took.
const options = JSON.parse(process.argv[2] ?? '{}') as TollgateOptions & { everyMs: number }
const { everyMs, ...ofOpen } = options
const tollgate = await Tollgate.open({ ...ofOpen, logger: pino({ level: 'silent' }) })

/** One call: when it was asked and let in, by a clock that all processes share. */
export interface AdmissionRequest {
  readonly atMs: number
  readonly tookMs: number
  readonly allowed: boolean
}

const requests: AdmissionRequest[] = []
const open = new Set<Promise<void>>()
let asking: Promise<void> | undefined
let stop = false

async function ask(): Promise<void> {
  const begin = performance.now()
  const grant = await tollgate.gate.admit({ agent: 'llm' })
  requests.push({ atMs: performance.timeOrigin + begin, tookMs: performance.now() - begin, allowed: grant.allowed })
  if (grant.allowed) await grant.settle()
}

async function askOn(): Promise<void> {
  const begin = performance.now()
  for (let n = 0; !stop; n++) {
    await sleep(Math.max(0, begin + n * everyMs - performance.now()))
    const one: Promise<void> = ask()
      .catch(() => {})
      .finally(() => open.delete(one))
    open.add(one)
  }
}

serve(
  {
    ready: () => null,
    begin: () => {
      asking = askOn()
      return null
    },
    outage: () => tollgate.stats.outage(),
    end: async () => {
      stop = true
      await asking
      await Promise.all(open)
      return requests
    },
  },
  () => tollgate.close(),
)
