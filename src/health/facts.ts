import type { Seen } from '../history/seen.js'
import type { RuleSpec } from '../policy/rule.js'
import type { WorkerReport } from '../queue/queue-places.js'

/** What BullMQ has of a queue with calls. */
export interface QueueFacts {
  readonly name: string
  /** In its wait list. */
  readonly waiting: number
  readonly active: number
  readonly paused: boolean
  /** When the first of the waiting jobs came; null where none waits. */
  readonly oldestMs: number | null
}

/** A call that fails again and again. */
export interface TroubledCall {
  readonly call: string
  readonly times: number
  readonly atMs: number
  readonly agent: string
  readonly org: string | undefined
}

/** A budget that refused calls in the last minutes. */
export interface RefusedBudget {
  readonly rule: string
  readonly limit: string
  readonly calls: number
  /** The minute of the first refusal that was found. */
  readonly sinceMs: number
}

/** Everything that the verdict is made of, read at one time. */
export interface HealthFacts {
  readonly nowMs: number
  /** The last look of the dispatcher; null where none has looked within a day. */
  readonly seen: Seen | null
  /** Whether a process has the lease to dispatch. */
  readonly dispatched: boolean
  /** The last report of each worker, of those that are gone, too, until their jobs are given to others. */
  readonly workers: readonly WorkerReport[]
  readonly queues: readonly QueueFacts[]
  /** How many lines there are now. */
  readonly lineCount: number
  /** How many calls stand in them: in the first 200 of them, where the dispatcher has not looked. */
  readonly callsInLines: number
  readonly arrivingPerSecond: number | null
  readonly startingPerSecond: number | null
  /** When a call started last; null where none has since the counts were reset. */
  readonly lastStartMs: number | null
  /** Whether calls were ever counted. */
  readonly hadCalls: boolean
  readonly troubled: readonly TroubledCall[]
  readonly refusedBudgets: readonly RefusedBudget[]
  /** Whether calls of more than one org were seen. */
  readonly severalOrgs: boolean
  readonly specs: readonly RuleSpec[]
}
