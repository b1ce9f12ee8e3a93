import type { AdmissionRequest } from '../../src/admission/request.js'
import type { Store } from '../../src/index.js'
import type { GivenClock } from '../../src/model/time.js'

/** When calls arrive. A refused call waits for its `retryAfterMs` and is tried again, behind earlier ones. */
export interface Offered {
  readonly calls: number
  /** In ms from the start. */
  arrival(call: number): number
  readonly untilMs: number
}

/** Calls at equal distances. */
export function evenly(calls: number, untilMs: number): Offered {
  return { calls, arrival: (call) => (call * untilMs) / calls, untilMs }
}

/** As many calls, those of a window all at its beginning. */
export function inBursts(calls: number, bursts: number, untilMs: number): Offered {
  return { calls, arrival: (call) => Math.floor((call * bursts) / calls) * (untilMs / bursts), untilMs }
}

/** Sends every call to the store. @returns how many were admitted before `untilMs` */
export async function offer(store: Store, clock: GivenClock, request: AdmissionRequest, { calls, arrival, untilMs }: Offered): Promise<number> {
  const startMs = clock.nowMs
  let arrived = 0
  let admitted = 0
  let retryAtMs = 0
  for (;;) {
    const waiting = arrived > admitted
    const nextMs = Math.min(waiting ? retryAtMs : Number.POSITIVE_INFINITY, arrived < calls ? arrival(arrived) : Number.POSITIVE_INFINITY)
    if (nextMs >= untilMs) return admitted
    clock.nowMs = Math.max(clock.nowMs, startMs + nextMs)
    while (arrived < calls && arrival(arrived) <= nextMs) arrived++
    while (arrived > admitted && nextMs >= retryAtMs) {
      const admission = store.admit(request)
      const { decision } = admission instanceof Promise ? await admission : admission
      if (decision.outcome === 'run') admitted++
      else retryAtMs = clock.nowMs - startMs + (decision.retryAfterMs ?? Number.POSITIVE_INFINITY)
    }
  }
}
