import { atLeast, type Figure, median } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { Helper } from './lib/processes.js'
import type { Cost, Kind } from './overhead-process.js'

const JOBS = 5000
const ROUNDS = 6
/** As in the overload benchmark. */
const CONCURRENCY = 100
const NAMESPACE = 'bench-overhead'
const KINDS: readonly Kind[] = ['plain', 'batched', 'gated-one', 'gated']

/** The rate of a worker that never reaches one of its nine limits, which are charged and settled, against the same worker without Tollgate. */
export function overhead(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], () => measure(redis))
}

async function measure(redis: string): Promise<Figure[]> {
  const helper = await Helper.start('overhead-process', { redis, namespace: NAMESPACE, concurrency: CONCURRENCY })
  const costs = new Map<Kind, Cost[]>(KINDS.map((kind) => [kind, []]))
  for (let round = 0; round <= ROUNDS; round++) {
    for (const kind of KINDS) {
      const cost = await helper.request<Cost>('run', { kind, jobs: JOBS })
      // The first round is to warm up.
      if (round > 0) costs.get(kind)?.push(cost)
    }
  }
  await helper.stop()
  const of = (kind: Kind) => costs.get(kind) as Cost[]
  const pairs = (kind: Kind, other: Kind) => of(kind).map(({ rate }, round) => rate / (of(other)[round] as Cost).rate)
  const told = (kind: Kind) => {
    const middle = (name: keyof Cost) => Math.round(median(of(kind).map((cost) => cost[name])))
    return `${middle('rate')} jobs a second, ${middle('node')} µs of Node and ${middle('redis')} of Redis a job`
  }
  const figure = (what: string, kind: Kind, other: Kind, bar: number) => {
    const ratios = pairs(kind, other)
    const spread = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)} in ${ROUNDS} pairs of ${JOBS} jobs`
    return atLeast(what, median(ratios), bar, `${told(kind)}, against ${told(other)}; ${spread}`)
  }
  return [
    figure('gate with 3 scopes × 3 limits and settlement, no limit reached, against the same worker without it', 'gated', 'plain', 1),
    figure('the same worker without it, whose ends travel in batches, against its own way', 'batched', 'plain', 1.3),
    figure('gate whose ends travel in batches, against one without', 'gated', 'gated-one', 1.05),
  ]
}
