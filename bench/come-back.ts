import { setTimeout as sleep } from 'node:timers/promises'
import { RateLimitExceeded, type RuleSpec, type Tollgate } from '../src/index.js'
import { NAMED_ALGORITHMS } from '../src/limits/algorithms.js'
import { atLeast, type Figure } from './lib/measure.js'
import { inNamespaces, openHere } from './lib/namespace.js'

const NAMESPACE = 'bench-come-back'
const CLIENTS = 40
const TIMES = 4
const WINDOW = '2s'

/** A client with its own scope value: sends calls until one is refused, waits for its `retryAfterMs`, and sends one more. @returns whether each of these was admitted */
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

/** @returns `retryAfterMs` where the call was refused; undefined where it was admitted */
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
 * Whether clients that a `retry_after` rule refuses are admitted when they come back after their
 * `retryAfterMs`: through enqueue and a worker, on Redis' own clock, per algorithm.
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
    return [atLeast('clients of a retry_after rule that are admitted when they come back after their retryAfterMs', share, 1, detail)]
  })
}
