/** flowing: work flows, though tenants may wait at their own limits. slowed: calls wait for what all share. stopped: nothing passes. unknown: figures are old. */
export type HealthState = 'flowing' | 'slowed' | 'stopped' | 'unknown'

/**
 * Why work flows or not, and the one thing to do about it. A code never changes its meaning; those that `WAIT_REASONS` has too mean the same there.
 * `docs/health.md` lists each, and a test compares the two. In order of weight: the first that holds is the verdict.
 */
export const HEALTH_REASONS = {
  REDIS_AWAY: { state: 'stopped', what: 'Redis does not answer.', todo: 'Bring Redis back; until then calls are decided on as `onStoreError` says.' },
  STALE: { state: 'unknown', what: 'The last figures are older than 10 seconds.', todo: 'Check the process that dispatches.' },
  NO_DISPATCHER: { state: 'stopped', what: 'Calls wait, and no process dispatches them.', todo: 'Start a worker or a server.' },
  NO_WORKER: { state: 'stopped', what: 'Calls wait, and no worker of any queue gives a sign of life.', todo: 'Start a worker.' },
  QUEUE_PAUSED: { state: 'stopped', what: 'The BullMQ queue is paused.', todo: 'Resume the queue in BullMQ.' },
  PAUSED: { state: 'slowed', what: 'Calls wait for the end of a pause by an operator.', todo: 'Resume its calls.' },
  UPSTREAM: {
    state: 'slowed',
    what: 'Calls wait for an agent that refused calls, or recovers.',
    todo: 'See what the agent says; lift the block if it is well.',
  },
  QUEUE_UNWORKED: { state: 'slowed', what: 'Calls of one queue have no worker, while others have.', todo: 'Start a worker for that queue.' },
  DEAD_SLOTS: {
    state: 'slowed',
    what: 'A worker died, and its slots come back when their leases end.',
    todo: 'Wait for the leases; then look why the worker died.',
  },
  OVERSIZED_HEAD: { state: 'slowed', what: 'The first call of a line needs most of its limit at once.', todo: 'Split or cancel the call, or raise the burst.' },
  CALL_FAILS: { state: 'slowed', what: 'A call fails again and again.', todo: 'Read why it fails; then cancel or mend it.' },
  BUDGET: { state: 'slowed', what: 'A budget is spent.', todo: 'Raise the budget or grant an override; else the calls wait for the next window.' },
  FLOOD: { state: 'slowed', what: 'Most of the calls that wait for a shared limit are of one tenant.', todo: 'Give that tenant a limit of its own.' },
  CONCURRENCY: { state: 'slowed', what: 'Calls wait for a slot of a shared limit.', todo: 'Raise the concurrency limit, or look for calls that hang.' },
  RATE: { state: 'slowed', what: 'Calls wait for a rate limit that all share.', todo: 'Wait; or raise the limit, or grant an override.' },
  WORKERS_BUSY: { state: 'slowed', what: 'Calls wait for a free place of a worker.', todo: 'Start more workers, or raise their `concurrency`.' },
  OWN_LIMIT: { state: 'flowing', what: 'Tenants wait at their own limits; all other calls flow.', todo: 'Nothing; or grant an override.' },
  EMPTY: { state: 'flowing', what: 'No call has come yet.', todo: 'Enqueue a call.' },
  FLOWING: { state: 'flowing', what: 'No call waits for longer than it should.', todo: 'Nothing.' },
} as const satisfies Record<string, { state: HealthState; what: string; todo: string }>

export type HealthReason = keyof typeof HEALTH_REASONS
