// Every metric and every event of the program, once: instruments are made from this table, and docs/metrics.md is compared with it.

export interface MetricSpec {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  readonly help: string
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[]
}

/** Upper bounds, in seconds, of waits: from no wait to an hour. */
const WAIT_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600]
const GATE_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]
const RUN_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]
const RATIOS = [0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 10]

const counter = (name: string, labels: readonly string[], help: string): MetricSpec => ({ name, type: 'counter', labels, help })
const gauge = (name: string, labels: readonly string[], help: string): MetricSpec => ({ name, type: 'gauge', labels, help })
const histogram = (name: string, labels: readonly string[], buckets: readonly number[], help: string): MetricSpec => ({
  name,
  type: 'histogram',
  labels,
  help,
  buckets,
})

/** The metrics that this process counts itself. */
export const COUNTED = {
  started: counter('tollgate_calls_started_total', ['agent'], 'Calls that started.'),
  ended: counter(
    'tollgate_calls_ended_total',
    ['agent', 'how'],
    'Calls that a worker took, by how they ended there: done, failed, returned (429), rejected, expired.',
  ),
  pickups: counter('tollgate_pickups_total', [], 'Jobs that workers took from BullMQ; divided by ended calls: pickups per call.'),
  wait: histogram('tollgate_call_wait_seconds', ['agent'], WAIT_SECONDS, 'From the enqueue to the start.'),
  gate: histogram('tollgate_gate_seconds', ['at'], GATE_SECONDS, 'How long a decision took: at enqueue, start or gate.'),
  run: histogram('tollgate_call_run_seconds', ['agent'], RUN_SECONDS, 'From the start to the end of the handler.'),
  decisions: counter(
    'tollgate_decisions_total',
    ['at', 'rule', 'strategy', 'outcome'],
    'Decisions: where, the rule that bound (empty: none did), its strategy, and what was decided.',
  ),
  checks: counter('tollgate_checks_total', ['rule'], 'Decisions in which the limits of a rule, or of a limiter, were asked.'),
  exceeded: counter('tollgate_exceeded_total', ['rule', 'limit'], 'Decisions to wait or to refuse, by the limit that bound.'),
  tokens: counter('tollgate_tokens_total', ['agent', 'kind'], 'Tokens of calls that ended: estimated when they started, and actual as their agents told.'),
  dollars: counter('tollgate_dollars_total', ['agent', 'kind'], 'Dollars of calls that ended: estimated when they started, and actual by their usage.'),
  estimateRatio: histogram('tollgate_estimate_ratio', ['agent'], RATIOS, 'Actual tokens of a call, divided by the estimated ones: the error of the estimate.'),
  refusals: counter('tollgate_upstream_refusals_total', ['agent', 'kind'], 'Calls that their agents refused: later (429 and the like), or never.'),
  blocks: counter('tollgate_upstream_blocks_total', ['agent'], 'Reports of this process that blocked an agent.'),
  cuts: counter('tollgate_upstream_cuts_total', ['agent'], 'Reports of this process that cut the limits of an agent.'),
  overridden: counter('tollgate_overridden_starts_total', ['rule'], 'Starts and admissions under an override of the rule.'),
  storeErrors: counter('tollgate_store_errors_total', [], 'Commands that Redis refused, or did not answer in time.'),
  alerts: counter('tollgate_alert_notices_total', ['alert', 'state'], 'Notices of alerts that this process sent out: firing or ended.'),
} as const satisfies Record<string, MetricSpec>

/** The metrics that are read when they are asked for. */
export const READ = {
  away: gauge('tollgate_store_away', [], 'While Redis is taken to be away 1, else 0.'),
  outages: counter('tollgate_outages_total', [], 'Times that Redis was taken to be away.'),
  unchecked: counter('tollgate_unchecked_total', [], 'Calls let in unchecked while Redis was away.'),
  metered: counter('tollgate_outage_metered_total', [], 'Calls let in by a share of the limits while Redis was away.'),
  refusedAway: counter('tollgate_outage_refused_total', [], 'Calls refused because Redis was away.'),
  owed: gauge('tollgate_outage_owed', [], 'What was used while Redis was away and is not reported to Redis yet.'),
  unreadable: counter('tollgate_usage_unreadable_total', [], 'Usages that agents reported and that could not be read: the estimates stand.'),
  capped: counter('tollgate_usage_capped_total', [], 'Amounts that agents reported and that were capped, since they were not believed.'),
  utilisation: gauge(
    'tollgate_utilisation',
    ['rule', 'limit'],
    'The part of a limit that is used, of the fullest scope value that was decided on in the last minute.',
  ),
  lineDepth: gauge('tollgate_line_depth', ['rule'], 'Calls that wait in the lines of a rule. Told by the process that dispatches, of up to 1000 lines.'),
  lineOldest: gauge('tollgate_line_oldest_seconds', ['rule'], 'How long the longest waiting call at the head of a line of the rule has waited.'),
  ledgerOpen: gauge('tollgate_ledger_open', [], 'Calls of the namespace that are charged and not settled yet.'),
  ledgerSettled: counter('tollgate_ledger_settled_total', [], 'Calls of the namespace that were settled.'),
  ledgerReleased: counter('tollgate_ledger_released_total', [], 'Calls of the namespace whose charge was given back.'),
  ledgerExpired: counter('tollgate_ledger_expired_total', [], 'Calls of the namespace whose entry ended unsettled: their estimates stay charged.'),
  factor: gauge('tollgate_upstream_factor', ['agent'], 'The part of its limits that an agent is taken to allow; of its endpoints and models the least.'),
  blocked: gauge('tollgate_upstream_blocked_seconds', ['agent'], 'How long an agent is blocked still; of its endpoints and models the longest.'),
  overrides: gauge('tollgate_overrides', [], 'Overrides in force.'),
  pauses: gauge('tollgate_pauses', [], 'Pauses in force.'),
  dispatches: gauge('tollgate_dispatcher', [], 'In the process that dispatches the lines 1, else 0.'),
} as const satisfies Record<string, MetricSpec>

export const METRICS: readonly MetricSpec[] = [...Object.values(COUNTED), ...Object.values(READ)]

export type CountedMetric = keyof typeof COUNTED
export type ReadMetric = keyof typeof READ

/** The events of a Tollgate. */
export const EVENTS = {
  change: { on: 'tollgate.capacity.on', help: 'An agent was reported on, in any process: refused, paused, observed or lifted.' },
  foreignWorker: { on: 'tollgate.on', help: 'A plain BullMQ worker has taken a job of the queue, which then passed no gate.' },
  alert: { on: 'tollgate.on', help: 'An alert of the rules file fires, or has ended, in any process of the namespace.' },
} as const
