import type { Logger } from 'pino'
import type { CallRequest } from '../admission/request.js'
import type { Call, Strategy } from '../model/call.js'
import type { Binding, CustomStrategy, Decision, DegradeDecision, RejectDecision, RunDecision, Verdict } from '../model/decision.js'
import { ConfigInvalid } from '../model/errors.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { show } from '../validation/faults.js'

/** A decision, and the call as it was asked for in the end. */
export interface ResolvedDecision {
  readonly request: CallRequest
  readonly decision: Decision
}

type Ask = (request: CallRequest) => Promise<ResolvedDecision>

const OUTCOMES: readonly string[] = ['wait', 'degrade', 'reject'] satisfies Verdict['outcome'][]

function degradation(decision: RunDecision, binding: Binding): DegradeDecision {
  const { atMs, watched } = decision
  return {
    outcome: 'degrade',
    atMs,
    binding,
    ...(watched === undefined ? {} : { watched }),
    get usage() {
      return decision.usage
    },
  }
}

/**
 * What the script leaves to its caller: strategies that ask once more, in degraded mode or
 * as your own code says. The script wrote nothing when it refused, and each question is
 * decided atomically; does the process die in between, nobody holds anything. Room that
 * comes back in between is not seen: the call then runs degraded although it need not.
 */
export class StrategyResolver {
  private readonly scriptClient: ScriptClient
  private readonly own: Readonly<Record<string, CustomStrategy>>
  private readonly log: Logger
  /** Strategies that were asked for and are not known here. */
  private readonly unknown = new Set<string>()

  constructor(scriptClient: ScriptClient, own: Readonly<Record<string, CustomStrategy>>, log: Logger) {
    this.scriptClient = scriptClient
    this.own = own
    this.log = log
  }

  /**
   * Asks the gate, at whichever of its doors `ask` stands.
   * @param keepsMode whether one that is degraded can wait as such: its job can say so
   * @throws ConfigInvalid where your own code fails, or answers what it cannot
   */
  async decide(request: CallRequest, ask: Ask, keepsMode = true): Promise<ResolvedDecision> {
    const first = await ask(request)
    const { decision } = first
    if (decision.outcome !== 'reject' || decision.reason !== 'limited' || decision.strategy === undefined) return first
    if (decision.strategy === 'graceful') return this.degrade(request, decision, ask, keepsMode)
    if (decision.strategy.startsWith('custom:')) return this.askOwn(request, decision, ask, keepsMode)
    return first
  }

  private async askOwn(request: CallRequest, decision: RejectDecision, ask: Ask, keepsMode: boolean): Promise<ResolvedDecision> {
    const name = (decision.strategy ?? '').slice('custom:'.length)
    const own = Object.hasOwn(this.own, name) ? this.own[name] : undefined
    if (own === undefined) {
      if (!this.unknown.has(name)) this.log.error({ strategy: name }, 'this process knows no such strategy of your own; its calls wait in line')
      this.unknown.add(name)
      return ask({ ...request, strategy: 'queue' })
    }
    const verdict = await this.ask(name, own, decision, request.call)
    if (verdict === null || typeof verdict !== 'object' || !OUTCOMES.includes(verdict.outcome))
      throw new ConfigInvalid(`strategies.${name}: must answer { outcome } with one of ${OUTCOMES.join(', ')} (got ${show(verdict?.outcome ?? verdict)})`)
    if (verdict.outcome === 'wait') return ask({ ...request, strategy: 'queue' })
    if (verdict.outcome === 'degrade') return this.degrade(request, decision, ask, keepsMode)
    const { retryAfterMs = null } = verdict
    if (retryAfterMs !== null && !(Number.isFinite(retryAfterMs) && retryAfterMs >= 0))
      throw new ConfigInvalid(`strategies.${name}: must answer a retryAfterMs that is a number from 0 or null (got ${show(retryAfterMs)})`)
    return { request, decision: { ...decision, retryAfterMs, usage: decision.usage } }
  }

  private async ask(name: string, own: CustomStrategy, decision: RejectDecision, call: Call): Promise<Verdict> {
    try {
      return await own(decision, call)
    } catch (cause) {
      throw Object.assign(new ConfigInvalid(`strategies.${name}: failed (${cause instanceof Error ? cause.message : show(cause)})`), { cause })
    }
  }

  /** Runs at once in degraded mode; where a rule that is not graceful has no room for that either, as that rule says, and degraded then. */
  private async degrade(request: CallRequest, refused: RejectDecision, ask: Ask, keepsMode: boolean): Promise<ResolvedDecision> {
    const model = this.scriptClient.degradeTo(request.call.agent)
    const call: Call = { ...request.call, degraded: true, ...(model === undefined ? {} : { model }) }
    const resolved = this.scriptClient.resolve(call, await this.scriptClient.costs(call))
    const degraded = { ...request, call, ...resolved }
    // At once, or not at all: its allowance is not waited for.
    const second = await ask({ ...degraded, strategy: 'retry_after' })
    const { decision } = second
    if (decision.outcome === 'run') return { request: { ...second.request, strategy: undefined }, decision: degradation(decision, refused.binding) }
    if (decision.outcome !== 'reject' || decision.binding.kind === 'degraded') return second
    return ask({ ...(keepsMode ? degraded : request), strategy: this.strategyOf(decision.binding.rule) })
  }

  /** What a rule says that refuses what runs in degraded mode; those that would degrade it have no allowance for it. */
  private strategyOf(name: string): Strategy {
    const strategy = this.scriptClient.rules.rules.find((rule) => rule.name === name)?.strategy ?? 'queue'
    return strategy === 'graceful' || strategy.startsWith('custom:') ? 'queue' : strategy
  }
}
