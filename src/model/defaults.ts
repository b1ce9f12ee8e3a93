import { DAY, HOUR, MINUTE, SECOND } from './time.js'

/** Who changed something that nobody put a name to. */
export const UNKNOWN_ACTOR = 'unknown'
/** Who ends overrides whose time is over. */
export const TIME_ACTOR = 'tollgate'

/** Every number that Tollgate chooses by itself, with its unit in its name. */
export const DEFAULTS = Object.freeze({
  namespace: 'default',
  queue: 'calls',
  /** Calls that one worker runs at once. */
  concurrency: 50,
  /** How long before its room a waiting call is woken: covers the way from the line to the worker. */
  lookaheadMs: 60,
  /** How long a woken call may be kept in its worker until its room is there. */
  holdMaxMs: 2 * SECOND,
  /** How long throttle keeps a call in its worker; beyond it stands in line. */
  throttleHoldMs: 250,
  /** How long drains of the same lines are apart, at least; one drain wakes all there is room for. */
  dispatchIntervalMs: 10,
  /** When a woken call that has not started is looked after. */
  passCheckMs: 1 * SECOND,
  /** How long a woken call's job may be missing from BullMQ (its enqueuer is still adding it, or died). */
  passGraceMs: 5 * SECOND,
  /** How long whoever drains has the right to; another takes over after that. */
  dispatcherLeaseMs: 600,
  /** How long a concurrency slot outlives the last sign of life of its worker. */
  slotLeaseMs: 30 * SECOND,
  shortestLeaseMs: 1 * SECOND,
  /** How far a clock may be set back without a meter following it: until it has caught up nothing comes back. */
  clockStepMs: 1 * MINUTE,
  /** How long the ledger waits to be told what a call has cost. */
  ledgerMs: 1 * DAY,
  /** How often one that waits in `acquire` for a concurrency slot looks again: another process does not say when it gives one back. */
  slotRecheckMs: 250,
  /** How long the state of a user's own algorithm is kept after its last change. */
  customStateMs: 1 * DAY,
  /** How often a user's own algorithm is asked again where another caller was faster. */
  customTries: 50,
  /** How long a worker may be silent before its calls are given to another. */
  leaseMs: 30 * SECOND,
  /** How often a call may be lost with its worker before it is taken for the cause and failed. */
  lostAtMost: 10,
  /** A waiting call's job comes back by itself this long after its estimated time, at least … */
  returnMarginMs: 5 * SECOND,
  /** … or this part of its wait, whichever is longer. */
  returnMarginShare: 0.25,
  /** When the job of a call comes back by itself whose wait nobody can know: for a slot, or to be resumed. */
  unknownWaitMs: 10 * MINUTE,
  /** The longest that a job is delayed in one go. */
  longestDelayMs: 1 * DAY,
  /** How long an agent is left alone that said 429 or 503 without saying for how long. */
  retryAfterMs: 1 * SECOND,
  /** The longest Retry-After that is believed. */
  longestRetryAfterMs: 1 * HOUR,
  /** How what an agent allows is learned from its refusals: see `UpstreamOptions`. */
  upstream: Object.freeze({ reduceFactor: 0.5, recoverFactor: 1.1, recoverEveryMs: 30 * SECOND, canary: true, canaryLeaseMs: 60 * SECOND }),
  /** How often what an agent tells of its limits is noted again though it is the same. */
  observedAgainMs: 1 * HOUR,
  /** How long results and failures stay readable. */
  keepResultsMs: 1 * HOUR,
  keepFailuresMs: 7 * DAY,
  /** Rules are read again this often, besides being announced: a lost message costs no more. */
  rulesRefreshMs: 5 * SECOND,
  /** The longest that an override may hold. */
  longestOverrideMs: 7 * DAY,
  /** How long the audit keeps what was changed. */
  auditRetentionMs: 90 * DAY,
  /** Entries of the audit that are answered at once. */
  auditEntries: 100,
  /** Lines are all looked at once more so long after a change: processes that had not heard of it have put calls there by what was before. */
  lookAgainMs: 1 * SECOND,
  /** Beside a given clock, how often it is asked whether an override has ended. */
  givenClockCheckMs: 20,
  /** How long a handler may take; 0 = as long as it likes. */
  timeoutMs: 0,
  /** How long a worker that was asked to stop waits for its calls. */
  shutdownTimeoutMs: 30 * SECOND,
  /** Output tokens that a call without max_tokens is expected to use. */
  outputTokens: 512,
  /** Meters and records that one script call touches, at most: keeps scripts short and Lua's stack safe. */
  batchKeys: 800,
  /** The longest window of a limit. */
  longestWindowMs: 366 * DAY,
  shortestWindowMs: 1,
  /** How long Redis may take for one command of the gate before it counts as away. */
  storeTimeoutMs: 1 * SECOND,
  /** Calls that are let in unchecked while Redis is away, at most per minute and process. */
  maxUnchecked: 1000,
  /** How long Redis may take to take in a call. */
  enqueueTimeoutMs: 5 * SECOND,
  /** A Redis that is away is tried again after this time, … */
  probeMs: 50,
  /** … and each time later, up to this. */
  longestProbeMs: 1 * SECOND,
  /** How often a process that is back looks whether the others are. */
  regroupMs: 50,
  /** How often a process says that it is there. */
  beatMs: 1 * SECOND,
  /** How long a process is counted that says nothing any more. */
  memberMs: 10 * SECOND,
  /** The part of a window that may pass in an outage before all of what was used before it has left the window. */
  outageShare: 0.1,
  /** Meters that a process counts itself in an outage, at most. */
  outageMeters: 100_000,
  /** Settlements that wait for a Redis that is away, at most. */
  outageSettlements: 100_000,
  /** How long it is known that something was taken in after an outage; longer than a command can be under way. */
  absorbedMs: 1 * HOUR,
  /** When a call of a worker is asked for again that a Redis refused, at first and at the latest. */
  storeRetryMs: 100,
  longestStoreRetryMs: 2 * SECOND,
  /** How long a result is waited for before it is looked up, should its event have been lost. */
  resultRecheckMs: MINUTE / 12,
})
