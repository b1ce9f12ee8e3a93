import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { Tollgate, type TollgateOptions } from '../src/index.js'
import { serve } from './lib/processes.js'

// Admits calls at a steady rate, whatever the answers, and keeps the answer and latency of each.
const options = JSON.parse(process.argv[2] ?? '{}') as TollgateOptions & { everyMs: number }
const { everyMs, ...ofOpen } = options
const tollgate = await Tollgate.open({ ...ofOpen, logger: pino({ level: 'silent' }) })

/** One decision; times are on a clock that all processes of a machine share. */
export interface TimedDecision {
  readonly atMs: number
  readonly tookMs: number
  readonly allowed: boolean
}

const decisions: TimedDecision[] = []
const open = new Set<Promise<void>>()
let admitting: Promise<void> | undefined
let stop = false

async function admit(): Promise<void> {
  const begin = performance.now()
  const grant = await tollgate.gate.admit({ agent: 'llm' })
  decisions.push({ atMs: performance.timeOrigin + begin, tookMs: performance.now() - begin, allowed: grant.allowed })
  if (grant.allowed) await grant.settle()
}

async function admitAtRate(): Promise<void> {
  const begin = performance.now()
  for (let n = 0; !stop; n++) {
    await sleep(Math.max(0, begin + n * everyMs - performance.now()))
    const one: Promise<void> = admit()
      .catch(() => {})
      .finally(() => open.delete(one))
    open.add(one)
  }
}

serve(
  {
    ready: () => null,
    begin: () => {
      admitting = admitAtRate()
      return null
    },
    outage: () => tollgate.stats.outage(),
    end: async () => {
      stop = true
      await admitting
      await Promise.all(open)
      return decisions
    },
  },
  () => tollgate.close(),
)
