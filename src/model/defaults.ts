import { DAY, HOUR, MINUTE, SECOND } from './time.js'

/** The actor in the audit of changes that were made without an actor. */
export const UNKNOWN_ACTOR = 'unknown'
/** The actor in the audit of overrides that ended by their time. */
export const TIME_ACTOR = 'tollgate'

/** The defaults of options, and the constants of the program. A unit stands in the name. */
export const DEFAULTS = Object.freeze({
  namespace: 'default',
  queue: 'calls',
  /** Calls that one worker runs at once. */
  concurrency: 50,
  /** A waiting call is woken this long before its room is there: covers the way from the line to the worker. */
  lookaheadMs: 60,
  /** The longest time that a worker holds a woken call until its room is there. */
  holdMaxMs: 2 * SECOND,
  /** The longest delay by throttle that a call spends in its worker; with a longer one it stands in a line. */
  throttleHoldMs: 250,
  /** The shortest time between two dispatches; each one wakes every call that has room. */
  dispatchIntervalMs: 10,
  /** How long after its wake-up a call that has not started is checked. */
  passCheckMs: 1 * SECOND,
  /** How long the job of a woken call may be missing from BullMQ: its enqueuer is still adding it, or died. */
  passGraceMs: 5 * SECOND,
  /** How long after its slot the room of a woken call is kept for it, … */
  claimMs: 1 * SECOND,
  /** … rounded up to a multiple of this. */
  claimStepMs: 250,
  /** How long after its decision a call without a job is woken like others: its enqueuer is still adding the job. */
  jobAwaitedMs: 500,
  /** How long after it was due a line counts as one that no process dispatches. */
  abandonedLineMs: 1 * SECOND,
  /** How often the dispatcher looks again at a line whose calls have room and whose queue takes none at the moment, … */
  queueLookMs: 50,
  /** … and at one whose queue has taken none for a while. */
  shutQueueLookMs: 200,
  /** The lease of the process that dispatches; after it another process takes over. */
  dispatcherLeaseMs: 600,
  /** How long a concurrency slot stays taken after its worker renewed it last. */
  slotLeaseMs: 30 * SECOND,
  shortestLeaseMs: 1 * SECOND,
  /** All workers are silent in Redis for so long only where it was away: half the shortest lease, and more than the time between two signs of a worker. */
  silenceMs: SECOND / 2,
  /** For how long no slot is given after Redis was away for half a lease: until the workers that live are back, and have renewed their slots. */
  slotGraceMs: 2 * SECOND,
  /** How long Redis remembers the last batch of starts of a worker, to tell late copies of earlier ones; longer than a command can be under way. */
  senderMs: 1 * HOUR,
  /** How far a clock may be set back without the meters following it: a bucket refills again once the clock has caught up. */
  clockStepMs: 1 * MINUTE,
  /** How long a started call can be settled; after that its estimate stands. */
  ledgerMs: 1 * DAY,
  /** How often a waiter in `acquire` checks for a free concurrency slot: other processes do not announce a slot that they release. */
  slotRecheckMs: 250,
  /** How often at least the first waiter of a line in `acquire` asks again: room may be there before the time that it was told. */
  acquireRecheckMs: 1 * SECOND,
  /** How long the state of a custom algorithm is kept after its last change. */
  customStateMs: 1 * DAY,
  /** The most custom algorithms that a namespace knows. */
  algorithmsAtMost: 64,
  /** For how long a limit has no room whose custom algorithm fails: until it is asked again. */
  customFaultMs: 1 * SECOND,
  /** How often a custom algorithm is run again after another process changed its state in the meantime. */
  customTries: 50,
  /** The lease of a call in a worker: without a renewal its job is given to another worker. */
  leaseMs: 30 * SECOND,
  /** How many workers may die while they run a call; the next death fails the call as the probable cause. */
  lostAtMost: 10,
  /** How many held calls run at once in one process. */
  heldConcurrency: 10_000,
  /** How often a process that holds calls gives a sign of life, and how long it may be silent before its held calls are given up. */
  heldBeatMs: 5 * SECOND,
  heldSilenceMs: 20 * SECOND,
  /** How long Redis keeps the list of the queues of held calls after the last sign of life. */
  heldListMs: 30 * DAY,
  /** How long after its enqueue a held call that has not started is looked for in its queue: another process may have cancelled it. */
  heldWatchMs: 1 * SECOND,
  /** BullMQ returns the job of a waiting call this long after the latest start that it was told (a safety net, should no process dispatch), … */
  returnMarginMs: 5 * SECOND,
  /** … or after this part of its estimated wait, whichever is longer. */
  returnMarginShare: 0.25,
  /** The same time for a call whose wait is unknown: for a concurrency slot, or for a pause to end. */
  unknownWaitMs: 10 * MINUTE,
  /** The longest delay of a job. */
  longestDelayMs: 1 * DAY,
  /** How long an agent is blocked that answered 429, 503 or 529 without a Retry-After. */
  retryAfterMs: 1 * SECOND,
  /** Longer Retry-After values are cut to this. */
  longestRetryAfterMs: 1 * HOUR,
  /** How long is waited at least where an agent refuses again (all calls, or one call), twice as long each time, … */
  patienceMs: SECOND / 10,
  /** … up to this: after an agent refused everything for a while, work resumes so much later at most. */
  longestPatienceMs: 1.6 * SECOND,
  /** How much later than others a refused call is tried when its agent's block ends: the probe is another call, where one waits. */
  returnLeadMs: SECOND / 4,
  /** How often a call may return to its line because its agent refused it. */
  maxReturns: 10,
  /** How Tollgate learns from an agent's refusals: see `UpstreamOptions`. */
  upstream: Object.freeze({ reduceFactor: 0.5, recoverFactor: 1.1, recoverEveryMs: 30 * SECOND, canary: true, canaryLeaseMs: 60 * SECOND }),
  /** How often unchanged limits of an agent are reported again, so that the store does not forget them. */
  observedAgainMs: 1 * HOUR,
  /** How long results and failures stay readable. */
  keepResultsMs: 1 * HOUR,
  keepFailuresMs: 7 * DAY,
  /** How often each process reads the rules again. Changes are also announced; this bounds what a lost message costs. */
  rulesRefreshMs: 1 * SECOND,
  /** How long a process that requires rules waits for them when it opens: those that were lost are declared anew within this time by a process that knows them. */
  rulesRestoreMs: 2 * SECOND,
  /** The longest duration of an override. */
  longestOverrideMs: 7 * DAY,
  /** The most overrides in force, and the most pauses, of a namespace: each change writes all of them. */
  exceptionsAtMost: 1000,
  /** How long the audit keeps an entry. */
  auditRetentionMs: 90 * DAY,
  /** The most entries of the audit: the oldest go first. */
  auditAtMost: 100_000,
  /** For how long the resets of a limiter by one actor are counted in one entry of the audit. */
  countedResetsMs: 1 * HOUR,
  /** The number of audit entries in an answer. */
  auditEntries: 100,
  /** After a change of the rules all lines are dispatched a second time after this: until then other processes may have put calls there under the old rules. */
  lookAgainMs: 1 * SECOND,
  /** With a clock that a test sets: how often it is read to see whether an override has ended. */
  givenClockCheckMs: 20,
  /** The largest payload of an enqueued call and the largest result, as JSON. */
  maxPayloadBytes: 1_000_000,
  maxResultBytes: 1_000_000,
  /** How long an agent may take to answer `httpAgent`. */
  agentTimeoutMs: 5 * MINUTE,
  /** The longest run of a handler; 0 = no bound. */
  timeoutMs: 0,
  /** How long a closing worker waits for its running calls. */
  shutdownTimeoutMs: 30 * SECOND,
  /** A reported usage is believed up to so many times the estimate, … */
  timesEstimate: 100,
  /** … or up to so many times the largest limit, whichever is more. */
  timesLimit: 10,
  /** The estimated output tokens of a call without max_tokens. */
  outputTokens: 512,
  /** The most keys of one script call: keeps scripts short, and within Lua's stack. */
  batchKeys: 800,
  /** IPv6 addresses that share so many bits are counted as one client: a client has all of them. */
  ipv6Prefix: 64,
  /** The longest window of a limit. */
  longestWindowMs: 366 * DAY,
  shortestWindowMs: 1,
  /** How long a start waits for Redis, before the process comes up without. */
  connectTimeoutMs: 2 * SECOND,
  /** The longest time for one command of the gate; after it Redis counts as away. */
  storeTimeoutMs: 1 * SECOND,
  /** The most calls per minute and process that pass unchecked while Redis is away. */
  maxUnchecked: 1000,
  /** The longest time for an enqueue, and for the other commands of the queue. */
  enqueueTimeoutMs: 5 * SECOND,
  /** How long after it failed a Redis is first tried again, … */
  probeMs: 50,
  /** … and the bound of the growing time between two tries: processes that Redis refuses are back within this of each other. */
  longestProbeMs: 250,
  /** After this a caller is told to ask again where Redis is away. */
  storeRetryAfterMs: 1 * SECOND,
  /** How often a process that has reached Redis again checks whether the other processes have, … */
  regroupMs: 50,
  /** … and how long it waits for those that Redis has not heard: more than lies between the returns of two processes that can reach it. */
  regroupAtMostMs: 300,
  /** The time between two heartbeats of a process. */
  beatMs: 1 * SECOND,
  /** How long a process counts as a member after its last heartbeat. */
  memberMs: 10 * SECOND,
  /** The part of a burst or window that is available at the beginning of an outage: the usage before it is unknown, so the rest counts as used. */
  outageShare: 0.1,
  /** The most meters that a process keeps in an outage. */
  outageMeters: 100_000,
  /** The most settlements that a process keeps for a Redis that is away. */
  outageSettlements: 100_000,
  /** How long Redis remembers which reports of an outage it has merged, so that a repeated one counts once; longer than a command can be under way. */
  mergedMs: 1 * HOUR,
  /** The first and the longest time between two tries of a command that Redis refused. */
  storeRetryMs: 100,
  longestStoreRetryMs: 2 * SECOND,
  /** How often a process looks for workers of its queue that are not of Tollgate. */
  foreignLookMs: 5 * SECOND,
  /** How often a process looks up a result that it waits for, should the event have been lost. */
  resultRecheckMs: MINUTE / 12,
})
