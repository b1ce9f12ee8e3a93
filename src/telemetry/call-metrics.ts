import type { AdmissionRequest } from '../admission/request.js'
import type { Call, Strategy } from '../model/call.js'
import type { ActualCosts, Costs } from '../model/cost.js'
import type { Binding, Decision, RejectDecision, Usage } from '../model/decision.js'
import { MINUTE } from '../model/time.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import { MetricCells } from './metric-cells.js'
import type { Ended } from './observer.js'

/** How often the usage in a decision is looked at, which costs more than the decision itself is counted for. */
const SAMPLE_EVERY_MS = 100
/** A fuller scope value than one that was seen so long ago is not awaited: the newer one takes its place. */
const SAMPLE_AGES_MS = 15_000
const MOST_LIMITERS = 1000

/** Where a decision was taken. */
export type DecidedAt = 'enqueue' | 'start' | 'gate'

/** What a limiter by key has answered; the limiter counts here itself. */
export interface LimiterCounts {
  allowed: number
  refused: number
}

/** Calls at the gate that were counted together: `history/gate-calls.ts`. */
interface SumAtGate {
  readonly rules: readonly CompiledRule[]
  readonly calls: number
  readonly micros: number
  readonly tookOfMetric: Uint32Array
  readonly strategy: Strategy | undefined
  readonly refusedBy: Pick<RejectDecision, 'outcome' | 'binding' | 'strategy'> | undefined
}

interface SampledPart {
  readonly rule: string
  readonly limit: string
  readonly part: number
  readonly atMs: number
}

/** Is told of what happens to calls in this process, and counts it. Nothing here waits or throws. */
export class CallMetrics {
  readonly cells = new MetricCells()
  private readonly limiters = new Map<string, LimiterCounts>()
  private readonly samples = new Map<string, SampledPart>()
  private sampledMs = 0

  /** @param sinceMs when the request was sent, by `performance.now()` */
  decided(at: DecidedAt, request: AdmissionRequest, decision: Decision, sinceMs?: number): void {
    const { cells } = this
    const nowMs = performance.now()
    if (sinceMs !== undefined) cells.observe('gate', (nowMs - sinceMs) / 1000, at)
    // A hold is asked again in a moment.
    if (decision.outcome === 'hold') return
    for (const { rule } of request.meters) {
      if (rule.kind !== 'rule') continue
      cells.add('checks', 1, rule.name)
      if (rule.override !== undefined && (decision.outcome === 'run' || decision.outcome === 'degrade') && at !== 'enqueue')
        cells.add('overridden', 1, rule.name)
    }
    const binding = 'binding' in decision ? decision.binding : null
    cells.add('decisions', 1, at, binding?.rule ?? '', strategyIn(request, decision, binding), decision.outcome)
    if (binding !== null && (decision.outcome === 'wait' || decision.outcome === 'reject')) cells.add('exceeded', 1, binding.rule, binding.limit)
    this.looked(decision, nowMs)
  }

  /** Calls of a kind that the gate decided on. */
  sumAtGate({ rules, calls, micros, tookOfMetric, strategy, refusedBy }: SumAtGate): void {
    const { cells } = this
    cells.observed('gate', tookOfMetric, micros / 1e6, 'gate')
    for (const { kind, name, override } of rules) {
      if (kind !== 'rule') continue
      cells.add('checks', calls, name)
      if (override !== undefined && refusedBy === undefined) cells.add('overridden', calls, name)
    }
    if (refusedBy === undefined) {
      cells.add('decisions', calls, 'gate', '', '', 'run')
      return
    }
    const { binding, outcome } = refusedBy
    cells.add('decisions', calls, 'gate', binding.rule, refusedBy.strategy ?? strategyThatRefused(strategy, rules, binding), outcome)
    cells.add('exceeded', calls, binding.rule, binding.limit)
  }

  /** How full the limits of a decision are, if none was looked at just now. @param nowMs by `performance.now` */
  looked({ usage }: Pick<Decision, 'usage'>, nowMs: number): void {
    if (nowMs - this.sampledMs < SAMPLE_EVERY_MS) return
    this.sampledMs = nowMs
    this.sample(usage, nowMs)
  }

  started({ agent }: Pick<Call, 'agent'>, waitedMs: number): void {
    this.cells.add('started', 1, agent)
    this.cells.observe('wait', Math.max(0, waitedMs) / 1000, agent)
  }

  /** @param actual undefined where its agent reported nothing; ranMs undefined where its handler did not run */
  ended({ agent }: Pick<Call, 'agent'>, how: Ended, estimated: Costs, actual: ActualCosts | undefined, ranMs: number | undefined): void {
    const { cells } = this
    cells.add('ended', 1, agent, how)
    if (ranMs !== undefined) cells.observe('run', ranMs / 1000, agent)
    if (how !== 'done' && how !== 'failed') return
    cells.add('tokens', estimated.tokens, agent, 'estimated')
    if (estimated.usd > 0) cells.add('dollars', estimated.usd, agent, 'estimated')
    if (actual?.usd !== undefined) cells.add('dollars', actual.usd, agent, 'actual')
    if (actual?.tokens === undefined) return
    cells.add('tokens', actual.tokens, agent, 'actual')
    if (estimated.tokens > 0) cells.observe('estimateRatio', actual.tokens / estimated.tokens, agent)
  }

  /** The counts of the limiters of a name. */
  limiter(name: string): LimiterCounts {
    const kept = this.limiters.size < MOST_LIMITERS ? name : 'other'
    let counts = this.limiters.get(name) ?? this.limiters.get(kept)
    if (counts === undefined) {
      counts = { allowed: 0, refused: 0 }
      this.limiters.set(kept, counts)
    }
    return counts
  }

  limiterCounts(): ReadonlyMap<string, LimiterCounts> {
    return this.limiters
  }

  /** The fullest scope values of the last minute, by rule and limit. */
  utilisation(): readonly SampledPart[] {
    const oldestMs = performance.now() - MINUTE
    for (const [key, { atMs }] of this.samples) if (atMs < oldestMs) this.samples.delete(key)
    return [...this.samples.values()]
  }

  private sample(usage: readonly Usage[], nowMs: number): void {
    for (const { rule, limit, used, capacity } of usage) {
      if (capacity <= 0 || rule.startsWith('~')) continue
      const key = `${rule}/${limit}`
      const known = this.samples.get(key)
      const part = used / capacity
      if (known === undefined && this.samples.size >= MOST_LIMITERS) continue
      if (known === undefined || part >= known.part || nowMs - known.atMs > SAMPLE_AGES_MS) this.samples.set(key, { rule, limit, part, atMs: nowMs })
    }
  }
}

function strategyIn(request: AdmissionRequest, decision: Decision, binding: Binding | null): string {
  if (decision.outcome === 'reject' && decision.strategy !== undefined) return decision.strategy
  if (binding === null) return ''
  return strategyThatRefused(
    request.call.strategy,
    request.meters.map(({ rule }) => rule),
    binding,
  )
}

/** @param own the strategy of the call itself */
function strategyThatRefused(own: Strategy | undefined, rules: readonly CompiledRule[], binding: Binding): string {
  if (binding.kind !== 'rule') return ''
  return own ?? rules.find(({ name }) => name === binding.rule)?.strategy ?? ''
}
