import { atLeast, type Figure, median } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { Helper } from './lib/processes.js'

const JOBS = 5000
const ROUNDS = 5
/** As in the overload benchmark. */
const CONCURRENCY = 100
const NAMESPACE = 'bench-overhead'

/** The rate of a worker that never reaches one of its nine limits, which are charged and settled, against the same worker without Tollgate. */
export function overhead(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], () => measure(redis))
}

async function measure(redis: string): Promise<Figure[]> {
  const helper = await Helper.start('overhead-process', { redis, namespace: NAMESPACE, concurrency: CONCURRENCY })
  await helper.request('plain', JOBS)
  await helper.request('gated', JOBS)
  const plain: number[] = []
  const gated: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    plain.push(await helper.request<number>('plain', JOBS))
    gated.push(await helper.request<number>('gated', JOBS))
  }
  await helper.stop()
  const ratio = median(gated) / median(plain)
  return [
    atLeast(
      'gate with 3 scopes × 3 limits and settlement, no limit reached, against the same worker without it',
      ratio,
      0.75,
      `${Math.round(median(gated))} against ${Math.round(median(plain))} jobs a second, medians of ${ROUNDS} × ${JOBS}`,
    ),
  ]
}
