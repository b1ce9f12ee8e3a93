export { type AgentAnswer, httpAgent } from './agents/http-agent.js'
export type { AuditEntry, Change } from './audit/entry.js'
export type { AuditQuery } from './audit/query.js'
export type { Call, Cost, Strategy } from './call.js'
export type { Capacities, ConfiguredLimit, UpstreamStats } from './capacity/capacities.js'
export type { Capacity } from './capacity/capacity.js'
export type { AnnounceInput, UpstreamChange, UpstreamState } from './capacity/upstreams.js'
export { type Clock, GivenClock } from './clock.js'
export type { TollgateOptions } from './config/options.js'
export type { UpstreamOptions } from './config/upstream-options.js'
export type { Estimate } from './cost/estimate.js'
export type { Price, PriceTable } from './cost/prices.js'
export type { ActualCosts, Costs, CostUnit } from './cost/units.js'
export { type CallUsage, readUsage } from './cost/usage.js'
export type { CustomStrategy, Verdict } from './custom-strategy.js'
export type { Binding, Decision, DegradeDecision, ExpiredDecision, RejectDecision, RunDecision, Usage, WaitDecision } from './decision.js'
export {
  CallInvalid,
  ConfigInvalid,
  ERRORS,
  type ErrorCode,
  RateLimitExceeded,
  RequestInvalid,
  RulesInvalid,
  StoreUnavailable,
  TollgateError,
  UpstreamLimited,
} from './errors.js'
export type { Answer } from './gate/answer.js'
export type { Checks } from './gate/checks.js'
export type { Grant } from './gate/grant.js'
export type { Admission, LedgerFigures, Store, Swapped } from './gate/store.js'
export type { Announced, Announcement, Known, Observation, ObservedLimit, ObservedLimits, UpstreamName } from './gate/upstream.js'
export type { HeadersLike } from './headers-like.js'
export type { CustomAlgorithm, CustomSpec } from './limiter/custom.js'
export type { Limiter } from './limiter/limiter.js'
export type { OutageFigures } from './outage/figures.js'
export type { GrantSpec } from './overrides/grant.js'
export type { Rules } from './overrides/live-rules.js'
export type { Applied, Overrides } from './overrides/overrides.js'
export type { Explanation } from './queue/explain.js'
export type { Ended, WorkerObserver } from './queue/observer.js'
export type { CallContext } from './queue/run.js'
export type { Ticket } from './queue/ticket.js'
export type { Handler, Worker, WorkerOptions } from './queue/worker.js'
export type { LimitSpec, Unit } from './rules/limit.js'
export type { Allowance, Exempt, Override, Reason } from './rules/override.js'
export type { Pause } from './rules/pause.js'
export { parseRules, type RulesFile, readRules } from './rules/read.js'
export type { AgentSpec, MatchSpec, OnStoreError, RuleSpec } from './rules/rule.js'
export { MemoryStore } from './store/memory-store.js'
export { type Stats, Tollgate } from './tollgate.js'
