import type { AdmissionRequest } from '../../src/admission/request.js'
import type { Store } from '../../src/index.js'
import type { GivenClock } from '../../src/model/time.js'

/** Calls as they come: who is refused waits as long as it was told and asks again, after those that were there before. */
export interface Offered {
  readonly calls: number
  /** When each comes, in ms from the start. */
  arrival(call: number): number
  readonly untilMs: number
}

/** So many calls, as far apart as can be. */
export function evenly(calls: number, untilMs: number): Offered {
  return { calls, arrival: (call) => (call * untilMs) / calls, untilMs }
}

/** The same, but those of a window all at its beginning. */
export function inBursts(calls: number, bursts: number, untilMs: number): Offered {
  return { calls, arrival: (call) => Math.floor((call * bursts) / calls) * (untilMs / bursts), untilMs }
}

/** Offers them all, and says how many were let in before the end. */
export async function offer(store: Store, clock: GivenClock, ask: () => AdmissionRequest, { calls, arrival, untilMs }: Offered): Promise<number> {
  const startMs = clock.nowMs
  const request = ask()
  let come = 0
  let admitted = 0
  let againMs = 0
  for (;;) {
    const waiting = come > admitted
    const nextMs = Math.min(waiting ? againMs : Number.POSITIVE_INFINITY, come < calls ? arrival(come) : Number.POSITIVE_INFINITY)
    if (nextMs >= untilMs) return admitted
    clock.nowMs = Math.max(clock.nowMs, startMs + nextMs)
    while (come < calls && arrival(come) <= nextMs) come++
    while (come > admitted && nextMs >= againMs) {
      const answer = store.admit(request)
      const { decision } = answer instanceof Promise ? await answer : answer
      if (decision.outcome === 'run') admitted++
      else againMs = clock.nowMs - startMs + (decision.retryAfterMs ?? Number.POSITIVE_INFINITY)
    }
  }
}
