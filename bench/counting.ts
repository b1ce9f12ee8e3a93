import { Redis } from 'ioredis'
import { pino } from 'pino'
import type { RuleSpec, Tollgate } from '../src/index.js'
import { AT_ONCE } from './lib/compare.js'
import { atMost, type Figure, median, percentile } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'
import { ROOMY } from './lib/peers.js'
import { redisCpuMicros } from './lib/redis-cpu.js'

const PAIRS = 101
const CHECK_TIMES = 21
const CHECKS = 500
const CALLS = 200
const CALL_PAIRS = 31
const CALL_TIMES = 6
const BAR = 0.02
/** A call by three rules, of three limits each. */
const SCOPES = ['user', 'team', 'org'] as const
const RULES: RuleSpec[] = SCOPES.map((scope) => ({ name: scope, scope, limits: ['minute', 'hour', 'day'].map((per) => ({ requests: ROOMY, per })) }))
const FULL: RuleSpec[] = [{ name: 'full', scope: 'global', limits: [{ requests: 1, per: '366d' }] }]

/** µs of CPU per call. */
interface Cost {
  readonly node: number
  readonly redis: number
}

/** Everything that a call is counted by is done so many times. */
function counted(tollgate: Tollgate, times: number): Tollgate {
  type Counting = Record<string, object>
  const { parts, gate, runtime } = tollgate as unknown as { parts: Counting; gate: Counting; runtime: Counting }
  const entries = [
    [gate['counts'], ['decided']],
    [parts['metrics'], ['decided', 'started', 'ended']],
    [runtime['notes'], ['decided', 'decidedAtWorker', 'started', 'settled', 'ended']],
  ] as const
  for (const [one, names] of entries) {
    for (const name of names) {
      const count = Object.getPrototypeOf(one)[name] as (...about: unknown[]) => void
      const again = function (this: unknown, ...about: unknown[]) {
        for (let n = 0; n < times; n++) count.apply(this, about)
      }
      Object.defineProperty(one, name, { value: again, configurable: true })
    }
  }
  return tollgate
}

/** @returns the cost of a call in `work`, which makes so many calls */
async function costOf(redis: Redis, calls: number, work: () => Promise<void>): Promise<Cost> {
  const redisBefore = await redisCpuMicros(redis)
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return { node: (user + system) / calls, redis: ((await redisCpuMicros(redis)) - redisBefore) / calls }
}

/**
 * What counting takes of the cost of a call. It is less than what two runs of the same differ by, so that it is told from the cost of calls that are counted
 * many times, in pairs in turn.
 */
async function compare(
  what: string,
  { pairs, times }: { pairs: number; times: number },
  once: () => Promise<Cost>,
  often: () => Promise<Cost>,
): Promise<Figure> {
  for (let warm = 0; warm < 4; warm++) for (const one of [once, often]) await one()
  const costs: { readonly once: Cost; readonly often: Cost }[] = []
  for (let pair = 0; pair < pairs; pair++) {
    const [first, second] = pair % 2 === 0 ? [once, often] : [often, once]
    const [one, other] = [await first(), await second()]
    costs.push(pair % 2 === 0 ? { once: one, often: other } : { once: other, often: one })
  }
  const micros = costs.map((pair) => (pair.often.node - pair.once.node) / (times - 1))
  const shares = costs.map((pair, n) => (micros[n] as number) / (pair.once.node - (micros[n] as number)))
  const of = (how: 'once' | 'often', where: keyof Cost) => median(costs.map((pair) => pair[how][where])).toFixed(1)
  const spread = `${percentile(shares, 0.25).toFixed(3)} to ${percentile(shares, 0.75).toFixed(3)} in the middle half of ${pairs} pairs`
  const each = `Node ${median(micros).toFixed(2)} of ${of('once', 'node')} µs (${of('often', 'node')} counted ${times} times); Redis ${of('once', 'redis')} µs, ${of('often', 'redis')}`
  return atMost(`counting: CPU that metrics and history add to ${what}`, median(shares), BAR, `${spread}; ${each}`)
}

function checks(redis: Redis, tollgate: Tollgate, allowed: boolean): () => Promise<Cost> {
  return () =>
    costOf(redis, CHECKS, async () => {
      let next = 0
      await Promise.all(
        Array.from({ length: AT_ONCE }, async () => {
          while (next < CHECKS) {
            const n = next++
            const grant = await tollgate.gate.admit({ agent: 'llm', model: 'big', user: `u${n % 500}`, team: `t${n % 50}`, org: `o${n % 5}` })
            if (grant.allowed !== allowed) throw new Error(`a check was ${allowed ? 'refused' : 'allowed'}`)
          }
        }),
      )
    })
}

function queued(redis: Redis, tollgate: Tollgate): () => Promise<Cost> {
  let ended = 0
  let finished = () => {}
  const worker = tollgate.worker(async () => ({ usage: { tokens: 900 } }), { concurrency: 100 })
  worker.bull.on('completed', () => {
    ended++
    if (ended % CALLS === 0) finished()
  })
  return () =>
    costOf(redis, CALLS, async () => {
      const done = new Promise<void>((resolve) => {
        finished = resolve
      })
      const calls = Array.from({ length: CALLS }, (_, n) => ({
        agent: 'llm',
        user: `u${n % 500}`,
        team: `t${n % 50}`,
        org: `o${n % 5}`,
        cost: { tokens: 1000 },
      }))
      for (let from = 0; from < CALLS; from += 100) await tollgate.enqueueMany(calls.slice(from, from + 100))
      await done
    })
}

/** What metrics and history cost a call: in Node's CPU, of calls at the gate that pass and that are refused, and of queued calls from enqueue to settlement. */
export function counting(url: string): Promise<Figure[]> {
  const names = ['once', 'often', 'full-once', 'full-often'].map((name) => `bench-counting-${name}`) as [string, string, string, string]
  return inNamespaces(url, names, async () => {
    const [once, often, full, fullOften] = (await Promise.all(
      names.map((namespace, n) => openHere({ redis: url, namespace, rules: n < 2 ? RULES : FULL, logger: pino({ level: 'silent' }) })),
    )) as [Tollgate, Tollgate, Tollgate, Tollgate]
    for (const tollgate of [often, fullOften]) counted(tollgate, CHECK_TIMES)
    const redis = new Redis(url)
    for (const tollgate of [full, fullOften]) await tollgate.gate.admit({ agent: 'llm' })
    const checked = { pairs: PAIRS, times: CHECK_TIMES }
    const figures = [
      await compare('a check by nine limits', checked, checks(redis, once, true), checks(redis, often, true)),
      await compare('a refused check', checked, checks(redis, full, false), checks(redis, fullOften, false)),
    ]
    counted(often, CALL_TIMES)
    figures.push(await compare('a queued call under nine limits', { pairs: CALL_PAIRS, times: CALL_TIMES }, queued(redis, once), queued(redis, often)))
    redis.disconnect()
    return figures
  })
}
