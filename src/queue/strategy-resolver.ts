import type { Logger } from 'pino'
import { identityOf } from '../admission/identity.js'
import type { CallRequest } from '../admission/request.js'
import type { Call } from '../model/call.js'
import type { Binding, CustomStrategy, Decision, DegradeDecision, RejectDecision, RunDecision, Verdict } from '../model/decision.js'
import { ConfigInvalid } from '../model/errors.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { show } from '../validation/faults.js'
import { allowedBy } from './allowed-call.js'

/** A decision, and the request that it was made for in the end. */
export interface ResolvedDecision {
  readonly request: CallRequest
  readonly decision: Decision
}

/** Sends a request to a script that decides: `enqueue` or `start`. */
type Decide = (request: CallRequest) => Promise<ResolvedDecision>

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
 * Carries out the strategies that need a second decision: degraded mode, and strategies of the user's own. A script that refuses writes nothing, and
 * each decision is atomic; if the process dies between the first and the second one, the call holds nothing. Room that comes back between the two is
 * not seen: the call then runs in degraded mode although it would have had room.
 */
export class StrategyResolver {
  /** Names of strategies that this process does not have, each logged once. */
  private readonly unknown = new Set<string>()

  constructor(
    private readonly scriptClient: ScriptClient,
    private readonly custom: Readonly<Record<string, CustomStrategy>>,
    private readonly log: Logger,
  ) {}

  /**
   * The decision on a call that a script has refused: the refusal itself, or a second decision where its strategy needs one.
   * @param keepsMode whether a call can wait in degraded mode: its job can be changed to that
   * @throws ConfigInvalid where the user's own strategy fails, or returns what it must not
   */
  async resolve(request: CallRequest, refused: RejectDecision, decide: Decide, keepsMode = true): Promise<ResolvedDecision> {
    if (refused.reason === 'limited' && refused.strategy === 'graceful') return this.degrade(request, refused, decide, keepsMode)
    if (refused.reason === 'limited' && refused.strategy?.startsWith('custom:')) return this.decideCustom(request, refused, decide, keepsMode)
    return { request, decision: refused }
  }

  private async decideCustom(request: CallRequest, decision: RejectDecision, decide: Decide, keepsMode: boolean): Promise<ResolvedDecision> {
    const name = (decision.strategy ?? '').slice('custom:'.length)
    const strategy = Object.hasOwn(this.custom, name) ? this.custom[name] : undefined
    if (strategy === undefined) {
      if (!this.unknown.has(name)) this.log.error({ strategy: name }, 'this process knows no such strategy of your own; its calls wait in line')
      this.unknown.add(name)
      return decide(waiting(request))
    }
    const verdict = await verdictOf(name, strategy, decision, request.call)
    switch (verdict.outcome) {
      case 'allow': {
        const allowed = allowedBy(request, [decision.binding.rule])
        const next = await decide(allowed)
        // Other rules may have no room either: each has its say.
        return next.decision.outcome === 'reject' ? this.resolve(allowed, next.decision, decide, keepsMode) : next
      }
      case 'wait':
        return decide(waiting(request))
      case 'degrade':
        return this.degrade(request, decision, decide, keepsMode)
      case 'reject': {
        const { retryAfterMs = null } = verdict
        if (retryAfterMs !== null && !(Number.isFinite(retryAfterMs) && retryAfterMs >= 0))
          throw new ConfigInvalid(`strategies.${name}: must answer a retryAfterMs that is a number from 0 or null (got ${show(retryAfterMs)})`)
        return { request, decision: { ...decision, retryAfterMs, usage: decision.usage } }
      }
      default:
        verdict.outcome satisfies never
        throw unknownOutcome(name, verdict)
    }
  }

  /**
   * Runs the call in degraded mode at once: it does not stand in line for the allowance of that mode. Where a rule that is not graceful has no room for it
   * either, the strategy of that rule decides, in degraded mode.
   */
  private async degrade(request: CallRequest, refused: RejectDecision, decide: Decide, keepsMode: boolean): Promise<ResolvedDecision> {
    const model = this.scriptClient.degradeTo(request.call.agent)
    const call: Call = { ...request.call, degraded: true, ...(model === undefined ? {} : { model }) }
    const resolved = this.scriptClient.resolver.resolve(call, await this.scriptClient.resolver.costs(call))
    const degraded = { ...request, identity: request.identity ?? identityOf(request.call), call, ...resolved }
    const second = await decide({ ...degraded, strategy: keepsMode ? 'waits' : 'retry_after' })
    const { decision } = second
    if (decision.outcome === 'run' && !('delayMs' in decision))
      return { request: { ...second.request, strategy: undefined }, decision: degradation(decision, refused.binding) }
    if (keepsMode || decision.outcome !== 'reject' || decision.binding.kind === 'degraded') return second
    // It cannot wait in degraded mode: it waits as it came.
    return decide(waiting(request))
  }
}

/** A call that is to wait for the rule that would not let it. A strategy that it brings itself is replaced for good: it holds for all its rules. */
function waiting(request: CallRequest): CallRequest {
  const { call } = request
  if (call.strategy?.startsWith('custom:') !== true) return { ...request, strategy: 'waits' }
  return { ...request, call: { ...call, strategy: 'queue' }, strategy: undefined }
}

async function verdictOf(name: string, strategy: CustomStrategy, decision: RejectDecision, call: Call): Promise<Verdict> {
  let verdict: Verdict | null
  try {
    verdict = await strategy(decision, call)
  } catch (cause) {
    throw Object.assign(new ConfigInvalid(`strategies.${name}: failed (${cause instanceof Error ? cause.message : show(cause)})`), { cause })
  }
  if (verdict === null || typeof verdict !== 'object') throw unknownOutcome(name, verdict)
  return verdict
}

function unknownOutcome(name: string, verdict: { outcome?: unknown } | null): ConfigInvalid {
  return new ConfigInvalid(`strategies.${name}: must answer { outcome } with one of allow, wait, degrade, reject (got ${show(verdict?.outcome ?? verdict)})`)
}
