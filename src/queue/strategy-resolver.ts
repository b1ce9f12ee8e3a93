import type { Logger } from 'pino'
import type { AskedCall } from '../admission/request.js'
import { isAllowance } from '../admission/resolver.js'
import type { Call, Strategy } from '../model/call.js'
import type { Binding, CustomStrategy, Decision, DegradeDecision, RejectDecision, RunDecision, Verdict } from '../model/decision.js'
import { ConfigInvalid } from '../model/errors.js'
import type { Gate } from '../store/redis/script-client.js'
import { show } from '../validation/faults.js'

/** A decision, and the call as it was asked for in the end. */
export interface Decided {
  readonly asked: AskedCall
  readonly decision: Decision
}

type Ask = (asked: AskedCall) => Promise<Decided>

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
export class Strategist {
  private readonly gate: Gate
  private readonly own: Readonly<Record<string, CustomStrategy>>
  private readonly log: Logger
  /** Strategies that were asked for and are not known here. */
  private readonly unknown = new Set<string>()

  constructor(gate: Gate, own: Readonly<Record<string, CustomStrategy>>, log: Logger) {
    this.gate = gate
    this.own = own
    this.log = log
  }

  /**
   * Asks the gate, at whichever of its doors `ask` stands.
   * @param keepsMode whether one that is degraded can wait as such: its job can say so
   * @throws ConfigInvalid where your own code fails, or answers what it cannot
   */
  async decide(asked: AskedCall, ask: Ask, keepsMode = true): Promise<Decided> {
    const first = await ask(asked)
    const { decision } = first
    if (decision.outcome !== 'reject' || decision.reason !== 'limited' || decision.strategy === undefined) return first
    if (decision.strategy === 'graceful') return this.degrade(asked, decision, ask, keepsMode)
    if (decision.strategy.startsWith('custom:')) return this.askOwn(asked, decision, ask, keepsMode)
    return first
  }

  private async askOwn(asked: AskedCall, decision: RejectDecision, ask: Ask, keepsMode: boolean): Promise<Decided> {
    const name = (decision.strategy ?? '').slice('custom:'.length)
    const own = Object.hasOwn(this.own, name) ? this.own[name] : undefined
    if (own === undefined) {
      if (!this.unknown.has(name)) this.log.error({ strategy: name }, 'this process knows no such strategy of your own; its calls wait in line')
      this.unknown.add(name)
      return ask({ ...asked, strategy: 'queue' })
    }
    const verdict = await this.ask(name, own, decision, asked.call)
    if (verdict === null || typeof verdict !== 'object' || !OUTCOMES.includes(verdict.outcome))
      throw new ConfigInvalid(`strategies.${name}: must answer { outcome } with one of ${OUTCOMES.join(', ')} (got ${show(verdict?.outcome ?? verdict)})`)
    if (verdict.outcome === 'wait') return ask({ ...asked, strategy: 'queue' })
    if (verdict.outcome === 'degrade') return this.degrade(asked, decision, ask, keepsMode)
    const { retryAfterMs = null } = verdict
    if (retryAfterMs !== null && !(Number.isFinite(retryAfterMs) && retryAfterMs >= 0))
      throw new ConfigInvalid(`strategies.${name}: must answer a retryAfterMs that is a number from 0 or null (got ${show(retryAfterMs)})`)
    return { asked, decision: { ...decision, retryAfterMs, usage: decision.usage } }
  }

  private async ask(name: string, own: CustomStrategy, decision: RejectDecision, call: Call): Promise<Verdict> {
    try {
      return await own(decision, call)
    } catch (cause) {
      throw Object.assign(new ConfigInvalid(`strategies.${name}: failed (${cause instanceof Error ? cause.message : show(cause)})`), { cause })
    }
  }

  /** Runs at once in degraded mode; where a rule that is not graceful has no room for that either, as that rule says, and degraded then. */
  private async degrade(asked: AskedCall, refused: RejectDecision, ask: Ask, keepsMode: boolean): Promise<Decided> {
    const model = this.gate.degradeTo(asked.call.agent)
    const call: Call = { ...asked.call, degraded: true, ...(model === undefined ? {} : { model }) }
    const demand = this.gate.demand(call, await this.gate.costs(call))
    const degraded = { ...asked, call, demand }
    // At once, or not at all: its allowance is not waited for.
    const second = await ask({ ...degraded, strategy: 'retry_after' })
    const { decision } = second
    if (decision.outcome === 'run') return { asked: { ...second.asked, strategy: undefined }, decision: degradation(decision, refused.binding) }
    if (decision.outcome !== 'reject' || isAllowance(decision.binding.rule)) return second
    return ask({ ...(keepsMode ? degraded : asked), strategy: this.strategyOf(decision.binding.rule) })
  }

  /** What a rule says that refuses what runs in degraded mode; those that would degrade it have no allowance for it. */
  private strategyOf(name: string): Strategy {
    const strategy = this.gate.rules.rules.find((rule) => rule.name === name)?.strategy ?? 'queue'
    return strategy === 'graceful' || strategy.startsWith('custom:') ? 'queue' : strategy
  }
}
