import type { Binding } from './decision.js'
import { DAY } from './time.js'

/** What a call can wait for, and the one thing to do about it. A code never changes its meaning; `docs/calls.md` lists each, and a test compares the two. */
export const WAIT_REASONS = {
  RATE: { what: 'Room in a limit by time.', todo: 'Wait; or raise the limit, or grant an override.' },
  BUDGET: {
    what: 'A budget: a limit in dollars, or with a window of a day or more.',
    todo: 'Raise the budget or grant an override; else the call waits for the next window.',
  },
  CONCURRENCY: { what: 'A slot, which comes back when a running call ends.', todo: 'Raise the concurrency limit, or look for calls that hang.' },
  UPSTREAM: {
    what: 'Its agent, which refused calls, or recovers from that.',
    todo: 'See `capacity.get`; lift the block with `meters.lift` if the agent is well.',
  },
  PAUSED: { what: 'The end of a pause by an operator.', todo: 'Resume its calls.' },
  NO_WORKER: { what: 'A worker: none of its queue has given a sign of life.', todo: 'Start a worker for the queue.' },
  WORKERS_BUSY: { what: 'A free place: the workers of its queue run as many calls as they may.', todo: 'Start more workers, or raise their `concurrency`.' },
  QUEUE_PAUSED: { what: 'The BullMQ queue, which is paused.', todo: 'Resume the queue in BullMQ.' },
  DELAYED: { what: 'The time of its next attempt, or the delay that its producer gave its job.', todo: 'Wait; or promote its job in BullMQ.' },
} as const satisfies Record<string, { what: string; todo: string }>

export type WaitReason = keyof typeof WAIT_REASONS

/** What a call waits for, and what to do about it; both null where it does not wait. */
export interface Waits {
  readonly waitsFor: WaitReason | null
  readonly todo: string | null
}

export const WAITS_FOR_NOTHING: Waits = { waitsFor: null, todo: null }

export function waitsFor(reason: WaitReason | null): Waits {
  return reason === null ? WAITS_FOR_NOTHING : { waitsFor: reason, todo: WAIT_REASONS[reason].todo }
}

/** @param windowMs of the limit that binds the call; null or undefined where it has none */
export function reasonOf({ kind, unit }: Pick<Binding, 'kind' | 'unit'>, windowMs: number | null | undefined): WaitReason {
  switch (kind) {
    case 'pause':
      return 'PAUSED'
    case 'upstream':
      return 'UPSTREAM'
    case 'rule':
    case 'degraded':
    case 'limiter':
      if (unit === 'concurrency') return 'CONCURRENCY'
      return unit === 'usd' || (windowMs ?? 0) >= DAY ? 'BUDGET' : 'RATE'
    default:
      return kind satisfies never
  }
}
