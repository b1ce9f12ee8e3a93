import type { CallRequest } from '../admission/request.js'
import type { Strategy } from '../model/call.js'
import type { RejectDecision, RunDecision } from '../model/decision.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import { BUCKETS, bucketOf } from './point.js'

/** So many kinds of calls are counted between two collections. */
const KINDS_AT_MOST = 1000

/** What refused calls of a kind. */
export type RefusedBy = Pick<RejectDecision, 'outcome' | 'reason' | 'binding' | 'strategy'>

/** Calls at the gate of one kind: of one agent, under the same rules, with the same strategy of their own, that ran at once or that the same limit refused. */
export class GateCalls {
  calls = 0
  /** How long their decisions took together, in µs. */
  micros = 0
  /** When the last one was decided, by `performance.now`. */
  lastMs = 0
  /** How long decisions took, in the buckets of the history and in those of the metric. */
  readonly took = new Uint32Array(BUCKETS)
  readonly tookOfMetric: Uint32Array

  constructor(
    readonly agent: string,
    readonly rules: readonly CompiledRule[],
    readonly strategy: Strategy | undefined,
    /** undefined: they ran. */
    readonly refusedBy: RefusedBy | undefined,
    bounds: readonly number[],
  ) {
    this.tookOfMetric = new Uint32Array(bounds.length + 1)
  }

  /** Whether calls that this decision refuses are of this kind. */
  isOf({ reason, binding, strategy }: RejectDecision, ownStrategy: Strategy | undefined): boolean {
    const { refusedBy } = this
    if (refusedBy === undefined || refusedBy.reason !== reason || refusedBy.strategy !== strategy || this.strategy !== ownStrategy) return false
    return refusedBy.binding.rule === binding.rule && refusedBy.binding.limit === binding.limit
  }
}

/** A step on the way from an agent along the rules of a call. */
class RulePath {
  /** The rule that came next last time: mostly it comes next again. */
  lastRule: CompiledRule | undefined
  last: RulePath | undefined
  ran: GateCalls | undefined
  readonly refused: GateCalls[] = []
  private readonly steps = new Map<CompiledRule, RulePath>()

  constructor(readonly rules: readonly CompiledRule[]) {}

  refusedBy(decision: RejectDecision, ownStrategy: Strategy | undefined): GateCalls | undefined {
    for (const kind of this.refused) if (kind.isOf(decision, ownStrategy)) return kind
    return undefined
  }

  to(rule: CompiledRule): RulePath {
    let next = this.steps.get(rule)
    if (next === undefined) {
      next = new RulePath([...this.rules, rule])
      this.steps.set(rule, next)
    }
    this.lastRule = rule
    this.last = next
    return next
  }
}

/**
 * Counts the calls at the gate that wait for nothing, for history and metrics together: one object has the counts of all calls of a kind, so that a call
 * costs some additions, however many rules it has. What was counted is shared out when it is collected.
 */
export class GateTally {
  private agents = new Map<string, RulePath>()
  private kinds: GateCalls[] = []

  /** @param bounds of the metric's buckets, in seconds */
  constructor(private readonly bounds: readonly number[]) {}

  /** @returns whether the call was counted: where there are too many kinds, those of further kinds are not */
  add({ call, meters }: Pick<CallRequest, 'call' | 'meters'>, decision: RunDecision | RejectDecision, tookMs: number, nowMs: number): boolean {
    const { agent } = call
    let path = this.agents.get(agent)
    if (path === undefined) {
      if (this.kinds.length >= KINDS_AT_MOST) return false
      path = new RulePath([])
      this.agents.set(agent, path)
    }
    for (const { rule } of meters) {
      if (rule.kind !== 'rule' && rule.kind !== 'degraded') continue
      path = path.lastRule === rule ? (path.last as RulePath) : path.to(rule)
    }
    const known = decision.outcome === 'run' ? path.ran : path.refusedBy(decision, call.strategy)
    const kind = known ?? this.newKind(agent, path, decision, call.strategy)
    if (kind === undefined) return false
    const micros = tookMs * 1000
    kind.calls++
    kind.micros += micros
    kind.lastMs = nowMs
    const bucket = bucketOf(micros)
    kind.took[bucket] = (kind.took[bucket] as number) + 1
    const { bounds } = this
    const seconds = tookMs / 1000
    let n = 0
    while (n < bounds.length && seconds > (bounds[n] as number)) n++
    kind.tookOfMetric[n] = (kind.tookOfMetric[n] as number) + 1
    return true
  }

  /** What was counted since the last time. */
  collect(): readonly GateCalls[] {
    const { kinds } = this
    if (kinds.length > 0) {
      this.kinds = []
      // Rules that are not in force any more are forgotten.
      this.agents = new Map()
    }
    return kinds
  }

  private newKind(agent: string, path: RulePath, decision: RunDecision | RejectDecision, strategy: Strategy | undefined): GateCalls | undefined {
    if (this.kinds.length >= KINDS_AT_MOST) return undefined
    const ran = decision.outcome === 'run'
    const refusedBy = ran ? undefined : { outcome: decision.outcome, reason: decision.reason, binding: decision.binding, strategy: decision.strategy }
    const kind = new GateCalls(agent, path.rules, ran ? undefined : strategy, refusedBy, this.bounds)
    if (ran) path.ran = kind
    else path.refused.push(kind)
    this.kinds.push(kind)
    return kind
  }
}
