export type { ApiKey, ApiKeySpec, ApiKeys } from './administration/api-keys.js'
export type { AuditEntry, AuditQuery, Change } from './administration/audit.js'
export type { Capacity } from './administration/capacity.js'
export type { GrantSpec } from './administration/grant.js'
export type { MeterName, Meters } from './administration/meters.js'
export type { Applied, OverrideInForce, Overrides } from './administration/overrides.js'
export type { Rules, RulesDiff } from './administration/rules.js'
export type { Answer } from './admission/answer.js'
export type { FetchIdentity } from './agents/held-fetch.js'
export { type AgentAnswer, type HttpAgentOptions, httpAgent } from './agents/http-agent.js'
export type { AlertNotice } from './alerts/notice.js'
export type { Gate } from './gate/gate.js'
export type { Grant } from './gate/grant.js'
export type { CallsPage, CallsQuery, LinesPage, LinesQuery, ListedCall, ListedLine } from './gate/waiting.js'
export type { Health, HealthFigures } from './health/health.js'
export type {
  CallEvent,
  CallHistory,
  History,
  HistoryPoint,
  HistoryQuery,
  LimitAtStart,
  LimitedBy,
  LineNow,
  LinesNow,
  RuleStats,
  Spend,
  SpendQuery,
  Violation,
  Violations,
} from './history/answers.js'
export type { CustomAlgorithm, CustomSpec } from './limiter/custom.js'
export type { Limiter } from './limiter/limiter.js'
export type { AlgorithmLimit, RuleAlgorithm } from './limits/algorithms/custom.js'
export type { LimitSpec } from './limits/limit.js'
export { type DefaultRulesOptions, defaultRules } from './middleware/default-rules.js'
export { expressLimit, fastifyLimit, honoLimit } from './middleware/frameworks.js'
export type { LimitOptions } from './middleware/request-gate.js'
export { expressRateLimitStore, fastifyRateLimitStore } from './middleware/stores.js'
export type { Call, Strategy } from './model/call.js'
export type { ActualCosts, Cost, Costs, CostUnit, Unit } from './model/cost.js'
export type {
  Binding,
  CustomStrategy,
  Decision,
  DegradeDecision,
  ExpiredDecision,
  RejectDecision,
  RunDecision,
  Usage,
  Verdict,
  WaitDecision,
} from './model/decision.js'
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
} from './model/errors.js'
export { HEALTH_REASONS, type HealthReason, type HealthState } from './model/health-reason.js'
export { type Clock, GivenClock } from './model/time.js'
export type {
  HeadersLike,
  Observation,
  ObservedLimit,
  ObservedLimits,
  UpstreamName,
  UpstreamOutcome,
  UpstreamReport,
  UpstreamStatus,
} from './model/upstream.js'
export { WAIT_REASONS, type WaitReason } from './model/wait-reason.js'
export type { TollgateOptions } from './options.js'
export type { OutageFigures } from './outage/outage.js'
export type { AlertPlan, AlertSpec, WebhookSpec } from './policy/alert.js'
export type { Allowance, Exempt, Override, Reason } from './policy/override.js'
export type { Pause } from './policy/pause.js'
export type { AgentSpec, MatchSpec, OnStoreError, RuleSpec } from './policy/rule.js'
export { parseRules, type RulesFile, readRules } from './policy/rules-file.js'
export type { UpstreamOptions } from './policy/upstream-block.js'
export type { Estimate } from './pricing/estimate.js'
export type { Price, PriceTable } from './pricing/prices.js'
export { type CallUsage, readUsage } from './pricing/usage.js'
export type { Explanation } from './queue/explain.js'
export type { ForeignWorker } from './queue/foreign-workers.js'
export type { CallContext, Handler, WorkerOptions } from './queue/handler.js'
export type { HeldCalls, HeldHandler, RunOptions } from './queue/held-calls.js'
export type { Ticket } from './queue/ticket.js'
export type { Worker } from './queue/worker.js'
export { MemoryStore } from './store/memory/memory-store.js'
export type { Admission, LedgerFigures, QuotaStore, StateResult, StateStore, Store, UpstreamStore } from './store/store.js'
export type { Ended, WorkerObserver } from './telemetry/observer.js'
export { type Stats, Tollgate } from './tollgate.js'
export type { Capacities, ConfiguredLimit, UpstreamStats } from './upstream/capacities.js'
export type { AnnounceInput, UpstreamChange, UpstreamState } from './upstream/tracker.js'
