import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { RuleSpec } from '../src/index.js'
import { atMost, type Figure, percentile } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'

const NAMESPACE = 'bench-waking'
const LONGEST_BAR_US = 1000
/** The first second after the enqueue is left out: all lines are looked at then. */
const SETTLE_MS = 1500

/** The client of commands that a script calls: their time is in that of the script. */
const WITHIN_SCRIPT = '?:0'

interface Setting {
  readonly name: string
  readonly rule: RuleSpec
  readonly users: number
  readonly calls: number
  /** How many calls are measured. */
  readonly measured: number
  readonly barUs: number
}

const SETTINGS: readonly Setting[] = [
  {
    name: 'one line at 500/s',
    rule: { name: 'rate', scope: 'agent', limits: [{ requests: 500, per: 'second', burst: 10 }] },
    users: 1,
    calls: 4000,
    measured: 2000,
    barUs: 120,
  },
  {
    name: '1,000 lines',
    rule: { name: 'rate', scope: 'user', limits: [{ requests: 1, per: 'second', burst: 1 }] },
    users: 1000,
    calls: 6000,
    measured: 2500,
    barUs: 60,
  },
]

/** A command of the dispatcher, as the slow log of Redis shows it; undefined for those of workers. */
function dispatcherCommand([name = '', first = '']: readonly string[]): string | undefined {
  const lower = name.toLowerCase()
  if (lower === 'fcall') return /_(dispatch|promote|lease|reconcile_passes|expire)$/.exec(first)?.[1]
  return ['zrange', 'mget', 'hgetall', 'hmget', 'smembers', 'exists', 'zscore', 'hexists'].includes(lower) ? lower : undefined
}

async function measure(url: string, { rule, users, calls, measured }: Setting) {
  const redis = new Redis(url)
  const tollgate = await openHere({ redis: url, namespace: NAMESPACE, rules: [rule] })
  let started = 0
  await tollgate.enqueueMany(Array.from({ length: calls }, (_, n) => ({ agent: 'llm', user: `u${n % users}` })))
  tollgate.worker(async () => void started++, { concurrency: 100 })
  await sleep(SETTLE_MS)
  await redis.config('SET', 'slowlog-max-len', '1000000')
  await redis.config('SET', 'slowlog-log-slower-than', '0')
  await redis.slowlog('RESET')
  const from = started
  while (started < from + measured && started < calls) await sleep(10)
  const count = started - from
  await redis.config('SET', 'slowlog-log-slower-than', '-1')
  const entries = (await redis.slowlog('GET', -1)) as [id: number, at: number, us: number, args: string[], client: string][]
  await redis.slowlog('RESET')
  const byCommand = new Map<string, { us: number; runs: number }>()
  const longest: number[] = []
  for (const [, , us, args, client] of entries) {
    const command = client === WITHIN_SCRIPT ? undefined : dispatcherCommand(args)
    if (command === undefined) continue
    if (command === 'dispatch') longest.push(us)
    const sum = byCommand.get(command) ?? { us: 0, runs: 0 }
    byCommand.set(command, { us: sum.us + us, runs: sum.runs + 1 })
  }
  redis.disconnect()
  return { count, byCommand, longest }
}

/** What it costs Redis to wake a call that waits: the dispatcher's commands by the slow log, which has each with its duration. */
export async function waking(redis: string): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const setting of SETTINGS) {
    const { count, byCommand, longest } = await inNamespaces(redis, [NAMESPACE], () => measure(redis, setting))
    const total = [...byCommand.values()].reduce((sum, { us }) => sum + us, 0)
    const each = [...byCommand]
      .sort(([, a], [, b]) => b.us - a.us)
      .map(([name, { us, runs }]) => `${name} ${(us / count).toFixed(1)} (${runs})`)
      .join(', ')
    figures.push(
      atMost(`waking, ${setting.name}: µs of Redis per woken call`, total / count, setting.barUs, `${count} calls; ${each}`),
      atMost(
        `waking, ${setting.name}: the longest dispatch script in µs, p99`,
        percentile(longest, 0.99),
        LONGEST_BAR_US,
        `p50 ${percentile(longest, 0.5)}, longest ${Math.max(...longest)}, ${longest.length} runs`,
      ),
    )
  }
  return figures
}
