/**
 * A small fleet as data: everything that is not in Redis. BullMQ and the processes are modelled here in a few fields each; what Redis holds of Tollgate is
 * the work of the program's own scripts, and stands beside the model in a state (`state.ts`). Times are ms since the beginning.
 */

/** What may go wrong, or be done from outside, so many times on one path. */
export const BUDGETS = ['deaths', 'stops', 'repeats', 'refusals', 'cancels', 'removals', 'ruleChanges', 'jumps'] as const
export type Budget = Record<(typeof BUDGETS)[number], number>

/** How long a woken call is kept whose job is missing. */
export const PASS_GRACE_MS = 5000
/** How long a worker remembers that a call was cancelled that it has not got. */
export const SLOW_ABORT_MS = 1000
/** How long after a change of the rules the dispatcher looks at all lines once more. */
export const LOOK_AGAIN_MS = 1000

/** One call, as its app sees it. */
export interface AppCall {
  /** ghost: its app died between the answer of the front door and its job. never: its app died before it asked. */
  state: 'new' | 'decided' | 'added' | 'refused' | 'ghost' | 'never'
  /** Of a decided call: the delay its job gets; 0: none. */
  delayMs?: number
  /** How often workers took its job. */
  attempts: number
  /** How often its agent got it. */
  starts: number
  /** How often something happened after which it may start once more. */
  excuses: number
  /** Whether it was cancelled: it may end as failed. */
  cancelled?: true
  /** Until when workers that get its job know that it was cancelled. */
  abortUntilMs?: number
  /** When the front door answered; until its job is added. */
  decidedAtMs?: number
  /** Whether its app was silent for longer than a woken call is kept whose job is missing. */
  slow?: true
}

/** The job of a call in BullMQ. */
export type Job =
  | { readonly state: 'none' | 'wait' | 'done' | 'failed' | 'removed' }
  | { readonly state: 'delayed'; readonly untilMs: number }
  /** A worker has its lock, under the number of its attempt; without an end while that worker renews it. */
  | { readonly state: 'active'; readonly attempt: number; readonly lockEndsMs?: number }

/** Names one start of a call: its attempt, and the number of the batch in which its start was sent. */
export interface Start {
  readonly call: number
  readonly attempt: number
  readonly batch: number
  /** The version of the rules by which its attempt was resolved. */
  readonly rules: number
  /** Whether the block of its agent has to hear of its end. */
  readonly watched?: boolean
  /** Where it was sent together with others: the ledger that they share, and its place there. */
  readonly ledger?: string
  readonly place?: number
}

/** A worker with one place. */
export interface Worker {
  readonly phase:
    | 'idle'
    /** Sends a start, not before `dueMs`. again: together with its call, to be put in line. */
    | 'starting'
    | 'starting again'
    /** The agent works on the call until `dueMs`, or longer. */
    | 'running'
    /** The agent refused the call: that has to be reported. */
    | 'reporting'
    /** Tells BullMQ how the job ends, or to delay it by `delayMs`. */
    | 'completing'
    | 'failing'
    | 'delaying'
    /** Gives back the place or pass of a call that was cancelled while it was put in line. */
    | 'leaving'
  readonly start?: Start
  readonly dueMs?: number
  readonly delayMs?: number
  /** Whether a start was sent whose reply was lost: it is sent again as it is. */
  readonly charged?: { readonly atMs: number }
  /** The end of a run that Redis has not been told yet. */
  readonly unsettled?: Start
  /** Whether that end was sent, and its reply was lost. */
  readonly told?: true
  /** Whether it stands still: it does nothing, renews nothing, and goes on later. */
  readonly still?: true
  readonly aborted?: true
}

/** A run of a call at its agent. */
export interface Run {
  readonly call: number
  readonly attempt: number
  readonly batch: number
  /** Until when its slot is rightly held: a lease from its charge on, extended or taken back by each renewal. 0: it has lapsed. */
  readonly leaseEndsMs: number
  readonly renewAtMs: number
  /** The version of the rules by which its attempt was resolved. */
  readonly rules: number
  /** As of its start. */
  readonly ledger?: string
  readonly place?: number
}

/** A charge in the agent's own books. */
export interface AgentCharge {
  readonly call: number
  readonly attempt: number
  readonly atMs: number
}

/** What was read of a call: its id, and the text of its record. */
export type ReadCall = readonly [id: string, record: string | null]

/** What is left of a turn of the dispatcher: ids to promote, passes to look after, keys of lines. */
export interface Turn {
  readonly promote: readonly string[]
  readonly passes: readonly string[]
  readonly lines: readonly string[]
}

export type Dispatcher =
  /** Looks again not before `dueMs`: where another process has to take over the lease. */
  | { readonly phase: 'idle'; readonly dueMs?: number }
  | { readonly phase: 'expire'; readonly late: readonly ReadCall[]; readonly rest: Turn }
  | { readonly phase: 'promote'; readonly call: number; readonly rest: Turn }
  | { readonly phase: 'reconcile'; readonly passes: readonly SeenPass[]; readonly rest: Turn }
  | { readonly phase: 'dispatch'; readonly fronts: readonly LineFront[] }

export type SeenPass = readonly [id: string, record: string | null, seen: 'queued' | 'held' | 'missing']
export type LineFront = readonly [line: string, calls: readonly ReadCall[]]

/** The cancellation of a call, step by step. */
export type Canceller =
  | { readonly phase: 'idle' }
  | { readonly phase: 'release'; readonly call: number; readonly read: ReadCall }
  | { readonly phase: 'finish'; readonly call: number; readonly runs: boolean }

/** A copy of a script call that is still on its way, though its sender has a reply already. */
export interface LateCopy {
  readonly name: string
  /** The bytes, as latin1. */
  readonly bytes: string
}

export interface Model {
  atMs: number
  /** Which apps live. */
  appsUp: boolean[]
  calls: AppCall[]
  jobs: Job[]
  workers: Worker[]
  dispatcher: Dispatcher
  /** Promotions of woken calls whose jobs were not delayed yet, until when they are tried. */
  retries: { readonly call: number; readonly untilMs: number }[]
  /** Whether the dispatcher looks at all lines the next time, and when it will do so once more after a change of the rules; 0: not. */
  scansAll: boolean
  scanAgainAtMs: number
  canceller: Canceller
  runs: Run[]
  charges: AgentCharge[]
  /** Until when the slots of runs whose worker died stay taken, by call. */
  deadSlots: { readonly call: number; readonly untilMs: number }[]
  agentBlockedUntilMs: number
  lateCopies: LateCopy[]
  /** The version of the rules in force, and those that each process knows. */
  rules: { inForce: number; app: number; workers: number; dispatcher: number }
  /** The ledger's sums as they ought to be. */
  ledger: { opened: number; settled: number; released: number }
  budget: Budget
}

/** The name of a start in the names of actions: c0, or c0/2 for its second attempt. */
export function label({ call, attempt }: Pick<Start, 'call' | 'attempt'>): string {
  return attempt === 1 ? `c${call}` : `c${call}/${attempt}`
}

/** Whether BullMQ would accept what the worker of a start says of its job. */
export function holdsLock({ jobs, atMs }: Model, { call, attempt }: Start): boolean {
  const job = jobs[call]
  return job?.state === 'active' && job.attempt === attempt && (job.lockEndsMs === undefined || job.lockEndsMs > atMs)
}

export function copyOf(model: Model): Model {
  return JSON.parse(JSON.stringify(model)) as Model
}

/** The model as text, equal for models that differ in nothing but the order of their workers, which are alike. */
export function textOf(model: Model): string {
  model.workers.sort((one, other) => {
    const [a, b] = [JSON.stringify(one), JSON.stringify(other)]
    return a < b ? -1 : a > b ? 1 : 0
  })
  return JSON.stringify(model)
}
