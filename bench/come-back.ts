import { setTimeout as sleep } from 'node:timers/promises'
import { RateLimitExceeded, type RuleSpec, type Tollgate } from '../src/index.js'
import { NAMED_ALGORITHMS } from '../src/limits/algorithms.js'
import { atLeast, type Figure } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'

const NAMESPACE = 'bench-come-back'
const CLIENTS = 40
const TIMES = 4
const WINDOW = '2s'

/** A client of its own, which nobody else's calls meet, comes until it is refused, waits just as long as it is told, and comes back. */
async function comeBack(tollgate: Tollgate, agent: string, user: string): Promise<boolean[]> {
  const admitted: boolean[] = []
  while (admitted.length < TIMES) {
    const retryAfterMs = await refusalOf(tollgate, agent, user)
    if (retryAfterMs === undefined) continue
    const untilMs = performance.now() + retryAfterMs
    // Timers may be early by part of a millisecond.
    for (let leftMs = retryAfterMs; leftMs > 0; leftMs = untilMs - performance.now()) await sleep(leftMs)
    admitted.push((await refusalOf(tollgate, agent, user)) === undefined)
  }
  return admitted
}

/** When it may come back; undefined where it was let in. */
async function refusalOf(tollgate: Tollgate, agent: string, user: string): Promise<number | undefined> {
  try {
    await (await tollgate.enqueue({ agent, user })).result()
    return undefined
  } catch (error) {
    if (!(error instanceof RateLimitExceeded) || error.retryAfterMs === null) throw error
    return error.retryAfterMs
  }
}

/**
 * Whether clients that a `retry_after` rule refuses are let in when they come back at the time
 * that they were told: through the front door and a worker, on Redis' own clock, per algorithm.
 */
export function comeBackBench(redis: string): Promise<Figure[]> {
  return inNamespaces(redis, [NAMESPACE], async () => {
    const rules = NAMED_ALGORITHMS.map(
      (algorithm): RuleSpec => ({
        name: algorithm,
        scope: 'user',
        match: { agents: [algorithm] },
        strategy: 'retry_after',
        limits: [{ requests: 3, per: WINDOW, algorithm }],
      }),
    )
    const tollgate = await openHere({ redis, namespace: NAMESPACE, rules })
    tollgate.worker(async () => null)
    const clients = NAMED_ALGORITHMS.flatMap((algorithm) => Array.from({ length: CLIENTS }, (_, index) => comeBack(tollgate, algorithm, `u${index}`)))
    const admitted = (await Promise.all(clients)).flat()
    const share = admitted.filter(Boolean).length / admitted.length
    const detail = `${admitted.length} refusals of ${CLIENTS} clients at each of ${NAMED_ALGORITHMS.join(', ')}: 3 per ${WINDOW}, enqueued and run`
    return [atLeast('clients of a retry_after rule that are let in at the time they were told', share, 1, detail)]
  })
}
