import { Redis } from 'ioredis'
import { pino } from 'pino'
import type { RuleSpec, Tollgate } from '../src/index.js'
import { AT_ONCE } from './lib/compare.js'
import { atMost, type Figure, median, percentile } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'
import { ROOMY } from './lib/peers.js'

const PAIRS = 201
const CHECKS = 500
const CALLS = 200
const CALL_PAIRS = 51
const BAR = 1.02
/** A call by three rules, of three limits each. */
const SCOPES = ['user', 'team', 'org'] as const
const RULES: RuleSpec[] = SCOPES.map((scope) => ({ name: scope, scope, limits: ['minute', 'hour', 'day'].map((per) => ({ requests: ROOMY, per })) }))
const FULL: RuleSpec[] = [{ name: 'full', scope: 'global', limits: [{ requests: 1, per: '366d' }] }]

/** µs of CPU per call. */
interface Cost {
  readonly node: number
  readonly redis: number
}

/** Takes the counting out of a Tollgate: what counts does nothing. */
function silenced(tollgate: Tollgate): Tollgate {
  type Counting = Record<string, object>
  const { parts, gate, runtime } = tollgate as unknown as { parts: Counting; gate: Counting; runtime?: Counting }
  const kept = ['constructor', 'flush', 'sync', 'send', 'begin', 'close', 'notes']
  for (const one of [parts['recorder'], parts['metrics'], gate['counts'], runtime?.['notes']]) {
    if (one === undefined) continue
    const names = Object.getOwnPropertyNames(Object.getPrototypeOf(one)).filter((name) => !kept.includes(name))
    for (const name of names) Object.defineProperty(one, name, { value: () => {} })
  }
  return tollgate
}

/** @returns the cost of a call in `work`, which makes so many calls */
async function costOf(redis: Redis, calls: number, work: () => Promise<void>): Promise<Cost> {
  const redisMicros = async () => {
    const info = await redis.info('cpu')
    const seconds = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1])
    return (seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1e6
  }
  const redisBefore = await redisMicros()
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return { node: (user + system) / calls, redis: ((await redisMicros()) - redisBefore) / calls }
}

/** The cost with counting against that without, in pairs in turn. */
async function compare(what: string, pairs: number, counting: () => Promise<Cost>, silent: () => Promise<Cost>): Promise<Figure> {
  for (let warm = 0; warm < 2; warm++) for (const one of [counting, silent]) await one()
  const costs: { readonly with: Cost; readonly without: Cost }[] = []
  for (let pair = 0; pair < pairs; pair++) {
    const [first, second] = pair % 2 === 0 ? [counting, silent] : [silent, counting]
    const [one, other] = [await first(), await second()]
    costs.push(pair % 2 === 0 ? { with: one, without: other } : { with: other, without: one })
  }
  const ratios = costs.map((pair) => pair.with.node / pair.without.node)
  const of = (how: 'with' | 'without', where: keyof Cost) => median(costs.map((pair) => pair[how][where])).toFixed(1)
  const spread = `${percentile(ratios, 0.25).toFixed(3)} to ${percentile(ratios, 0.75).toFixed(3)} in the middle half of ${pairs} pairs`
  const each = `Node ${of('with', 'node')} µs with, ${of('without', 'node')} without; Redis ${of('with', 'redis')} and ${of('without', 'redis')}`
  return atMost(`counting: CPU of ${what} with metrics and history ÷ without`, median(ratios), BAR, `${spread}; ${each}`)
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
  const names = ['with', 'without', 'full-with', 'full-without'].map((name) => `bench-counting-${name}`) as [string, string, string, string]
  return inNamespaces(url, names, async () => {
    const [on, off, fullOn, fullOff] = (await Promise.all(
      names.map((namespace, n) => openHere({ redis: url, namespace, rules: n < 2 ? RULES : FULL, logger: pino({ level: 'silent' }) })),
    )) as [Tollgate, Tollgate, Tollgate, Tollgate]
    for (const tollgate of [off, fullOff]) silenced(tollgate)
    const redis = new Redis(url)
    for (const tollgate of [fullOn, fullOff]) await tollgate.gate.admit({ agent: 'llm' })
    const figures = [
      await compare('a check by nine limits', PAIRS, checks(redis, on, true), checks(redis, off, true)),
      await compare('a refused check', PAIRS, checks(redis, fullOn, false), checks(redis, fullOff, false)),
      await compare('a queued call under nine limits', CALL_PAIRS, queued(redis, on), queued(redis, off)),
    ]
    redis.disconnect()
    return figures
  })
}
