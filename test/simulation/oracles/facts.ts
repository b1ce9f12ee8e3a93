/**
 * The language of the oracles: what apps asked and were told, what agents saw, what was done to the fleet, and what was left at the end. Facts are
 * plain data and may come in any order; the simulation writes them, and chaos tests or a journal of production could. No fact is taken from
 * Tollgate's own bookkeeping but those that say so (`charged`, `usage`, `ledger`): an oracle compares these with the others.
 *
 * Times are ms since the epoch, by the world's one true clock (the simulation's, or that of the machine that noted the fact).
 */

export const FACT_UNITS = ['requests', 'tokens', 'inputTokens', 'outputTokens', 'usd', 'points'] as const
export type FactUnit = (typeof FACT_UNITS)[number]
/** Costs by unit; a unit that is left out cost nothing. */
export type FactCosts = Readonly<Partial<Record<FactUnit, number>>>

/** The fields of a call that a limit may count by. */
export const FACT_SCOPES = ['agent', 'endpoint', 'model', 'user', 'team', 'org', 'ip'] as const
export type FactScope = (typeof FACT_SCOPES)[number]
export type FactScopes = Readonly<Partial<Record<FactScope, string>>>

/** How much a limit allows. */
export type Form =
  /** A token bucket: at most `burst` at once, refilled by `perSecond`. */
  | { readonly kind: 'bucket'; readonly perSecond: number; readonly burst: number }
  /** A bucket without a burst: a call of cost n keeps the next one away for n / `perSecond`. */
  | { readonly kind: 'leaky bucket'; readonly perSecond: number }
  /** At most `limit` in each window, which begin at multiples of `windowMs` since the epoch, by a clock that is `aheadMs` ahead of the true one. */
  | { readonly kind: 'fixed window'; readonly limit: number; readonly windowMs: number; readonly aheadMs?: number }
  /** At most `limit` in any `windowMs`, exactly. */
  | { readonly kind: 'sliding log'; readonly limit: number; readonly windowMs: number }
  /** The same, but the room of a past start may come back a 32nd of the window later, and a 33rd of the limit may lie idle. */
  | { readonly kind: 'sliding window'; readonly limit: number; readonly windowMs: number }
  /** At most `slots` runs at once; a slot whose holder is silent is free again after `leaseMs`. */
  | { readonly kind: 'slots'; readonly slots: number; readonly leaseMs: number }

/** A limit as the agent would hold it by itself: its own bucket, window or slots. */
export interface FactLimit {
  readonly name: string
  /** Only calls with one of these values in each field named here are counted. Default: all. */
  readonly where?: Readonly<Partial<Record<FactScope, readonly string[]>>>
  /** Counted apart for each combination of these fields; empty: all calls together. A call that lacks one of them is not counted. */
  readonly by: readonly FactScope[]
  /** Which runs are counted: default all; normal: not those in degraded mode (the limits of a graceful rule); degraded: only those. */
  readonly mode?: 'normal' | 'degraded'
  /** What is counted; left out for slots. */
  readonly unit?: FactUnit
  readonly form: Form
  /** Where an override holds: another form (null: without a bound) for these keys, which are the values of `by`, joined by '/'. */
  readonly forms?: Readonly<Record<string, Form | null>>
}

/** How a call came to the gate. */
export type Door =
  /** `enqueue` or `enqueueMany`. */
  | 'queue'
  /** A job that a plain BullMQ `Queue` added: the gate meets it in the worker. */
  | 'plain job'
  /** `gate.admit`: without a queue, never in line. Each call has one run, from the admission to its settlement or release. */
  | 'gate'
  /** `gate.acquire`: waits in its own process. */
  | 'acquire'
  /** `gate.record`: charged for good, whether there is room or not; what is above a limit is debt. */
  | 'record'
  /** A limiter by key: charged for good. */
  | 'limiter'

interface At {
  readonly atMs: number
}

/** The limits that are in force from now on; they replace those of the last fact. Usage goes on under the same name and key. */
export interface LimitsFact extends At {
  readonly fact: 'limits'
  readonly limits: readonly FactLimit[]
}

/** An app asked for a call. */
export interface AskedFact extends At {
  readonly fact: 'asked'
  readonly call: string
  /** The process that asked. */
  readonly by: string
  readonly door: Door
  /** The BullMQ queue; left out where the door has none. */
  readonly queue?: string
  readonly scopes: FactScopes
  /** The estimate, as the call names it; `requests` is 1 for a call of one request. */
  readonly costs: FactCosts
  readonly priority: number
  readonly deadlineMs?: number
  /** The longest wait that it, or a rule, allows; and its own, whatever it waits for. */
  readonly maxWaitMs?: number
  readonly ownMaxWaitMs?: number
  /** Of a call that one rule covers, which bounds its lines: the line there, and how many may wait in it. */
  readonly boundedBy?: { readonly line: string; readonly most: number }
  /** Whether the call waits for room ('queue', 'throttle'), or is refused or degraded where there is none. Of the strictest rule that covers it. */
  readonly waits: boolean
  /** Whether its strategy spaces starts evenly ('throttle'): a window then has room that it leaves unused on purpose. */
  readonly spaced?: boolean
  /** Whether code of its app is asked before it gets in line, which takes a moment. */
  readonly asksApp?: boolean
}

/** What the app was told at once. */
export interface AnsweredFact extends At {
  readonly fact: 'answered'
  readonly call: string
  /** unknown: Redis did not answer; the call may have been taken in. joined: it stands for a call that was asked for before (deduplication, or the same id). */
  readonly outcome: 'run' | 'wait' | 'degrade' | 'refused' | 'unknown' | 'joined'
  /** When it starts, in ms from now; null: not known; left out: not said. */
  readonly etaMs?: number | null
  /** When it starts at the latest; null: not known; left out: `etaMs` is the time. */
  readonly etaMaxMs?: number | null
  readonly code?: string
}

/** BullMQ handed the job of a call to a worker. */
export interface HandedFact extends At {
  readonly fact: 'handed'
  readonly call: string
  readonly to: string
}

/** Tollgate charged a call its estimate: `atMs` is the time of the charge, as the decision says; where Redis' clock was set, that comes off. */
export interface ChargedFact extends At {
  readonly fact: 'charged'
  readonly call: string
  readonly run: number
  /** Whether it runs in degraded mode: see `FactLimit.mode`. */
  readonly degraded?: boolean
  /** Redis did the command twice, since its first reply was lost: when it did it first. The charge was made at one of the two times. */
  readonly firstMs?: number
  /** Whether the process let it in by itself, since it took Redis to be away. */
  readonly unchecked?: boolean
}

/** The agent got the call: its handler was entered, or its `admit` was answered. */
export interface StartedFact extends At {
  readonly fact: 'started'
  readonly call: string
  /** Each run has a number of its own. */
  readonly run: number
  readonly by: string
  readonly attempt: number
}

/** The agent is done with a run. Runs of a process that dies have no end. */
export interface EndedFact extends At {
  readonly fact: 'ended'
  readonly call: string
  readonly run: number
  /** sent back: the agent refused it (429); it cost the agent nothing. released: it was not made. */
  readonly how: 'done' | 'failed' | 'sent back' | 'released'
  /** What it cost the agent. */
  readonly actual: FactCosts
  /** Whether the cost was reported to Tollgate; where not, the estimate stands. */
  readonly reported: boolean
  /** Of a run that was sent back: for how long the agent asked to be left alone. */
  readonly retryAfterMs?: number
}

/** What the app was told at last. */
export interface ResultFact extends At {
  readonly fact: 'result'
  readonly call: string
  readonly how: 'done' | 'failed' | 'expired' | 'cancelled'
  readonly code?: string
}

/** The app was told what became of its wish to cancel a call. */
export interface CancelledFact extends At {
  readonly fact: 'cancelled'
  readonly call: string
  /** false: the call had finished. */
  readonly took: boolean
}

/** A worker takes calls of a queue from now on, or no longer (closed, died). */
export interface WorkerFact extends At {
  readonly fact: 'worker'
  readonly process: string
  readonly queue: string
  readonly state: 'up' | 'gone'
  /** Calls that it runs at once. */
  readonly places: number
}

/** A queue was paused or resumed in BullMQ. */
export interface QueueFact extends At {
  readonly fact: 'queue'
  readonly queue: string
  readonly state: 'paused' | 'resumed'
}

export const FAULTS = [
  'death',
  'stop',
  'cut',
  'repeated send',
  'failover',
  'node clock',
  'redis clock',
  'function flush',
  'slow network',
  'redis refuses writes',
  'redis away',
  'rule change',
  'override',
  'pause',
  'cancel',
  'removed job',
  'paused queue',
  'workerless queue',
  'agent refuses once',
  'agent refuses for a while',
  'agent refuses always',
  'odd usage',
] as const
export type FaultKind = (typeof FAULTS)[number]

/** Something was done to the fleet, from `atMs` to `untilMs` (the same for what takes no time; Infinity for what stays). */
export interface FaultFact extends At {
  readonly fact: 'fault'
  readonly fault: FaultKind
  readonly untilMs: number
  readonly text: string
  /** Whom it concerns; left out: all. */
  readonly process?: string
  readonly call?: string
  readonly queue?: string
  readonly scopes?: FactScopes
  /** Of a failover: the commands from this time on are forgotten. */
  readonly lostFromMs?: number
  /** Of a clock: by how much it was set forward (negative: back). */
  readonly byMs?: number
}

/** After the end of all work, and after all bounds: a key that is left in Redis. */
export interface KeyFact extends At {
  readonly fact: 'key left'
  readonly key: string
  readonly type: string
  /** null: without an end. */
  readonly ttlMs: number | null
}

/** After the end: what Tollgate says of one limit. */
export interface UsageFact extends At {
  readonly fact: 'usage'
  readonly limit: string
  /** The values of the limit's `by`, joined by '/'. */
  readonly key: string
  readonly used: number
  readonly claimed: number
}

/** After the end: the sums of the ledger. */
export interface LedgerFact extends At {
  readonly fact: 'ledger'
  readonly open: number
  readonly settled: number
  readonly released: number
  readonly expired: number
}

/** The program said that it is broken: an unhandled rejection, an error of Redis that is none of the faults, an error logged as a bug. */
export interface ErrorFact extends At {
  readonly fact: 'error'
  readonly process: string
  readonly text: string
}

export type Fact =
  | LimitsFact
  | AskedFact
  | AnsweredFact
  | HandedFact
  | ChargedFact
  | StartedFact
  | EndedFact
  | ResultFact
  | CancelledFact
  | WorkerFact
  | QueueFact
  | FaultFact
  | KeyFact
  | UsageFact
  | LedgerFact
  | ErrorFact

export const ORACLES = [
  'never over',
  'never stuck',
  'woken once',
  'nothing lost',
  'nothing twice',
  'in order',
  'line bounded',
  'eta told',
  'quiet',
  'no error',
] as const
export type OracleName = (typeof ORACLES)[number]

/** What an oracle found wrong. */
export interface Report {
  readonly oracle: OracleName
  readonly atMs: number
  /** One sentence: what, where, by how much, and what would have been right. */
  readonly text: string
  /** The calls that it is about, the most telling one first. */
  readonly calls: readonly string[]
}

/** How far a healthy fleet may be from an ideal one. */
export interface Bounds {
  /** The longest time from a charge to its start that the network and the worker may take; also that of any step of a healthy process. */
  readonly stepMs: number
  /** How late a call may start that has room, is first, and has a worker with a place, while no participant is sick. */
  readonly lateMs: number
  /** The same, once for each sick participant that shares a meter with it (invariant 12). */
  readonly lateSickMs: number
  /** The part of the room that may be lost while calls wait for it: healthy, and beside a sick participant. */
  readonly lostShare: number
  readonly lostShareSick: number
  /** How far a told ETA may be from the real start. */
  readonly etaMs: number
  /** How long a change of rules or overrides takes to reach every process. */
  readonly changeMs: number
  /** The longest lease: of a job in its worker, and of a slot. */
  readonly leaseMs: number
}
