import { randomUUID } from 'node:crypto'
import { DecisionAnswer } from '../admission/answer.js'
import { rejection } from '../admission/rejection.js'
import type { CallRequest } from '../admission/request.js'
import type { Resolver } from '../admission/resolver.js'
import type { Call } from '../model/call.js'
import { NOTHING } from '../model/cost.js'
import type { RejectDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid, TollgateError } from '../model/errors.js'
import { actualCosts } from '../pricing/costs.js'
import type { CallUsage } from '../pricing/usage.js'
import type { Store } from '../store/store.js'
import { validateCall } from '../validation/call.js'
import { type AcquireAttempt, AcquireLines, linesOf } from './acquire-line.js'
import { Grant, type Granter } from './grant.js'

/** Why a call is refused that may pass later: who waits in `acquire` goes on waiting. */
const WAITED_FOR: readonly RejectDecision['reason'][] = ['limited', 'paused', 'unavailable']

/** The gate without the queue: ask, ask and charge, wait until there is room. */
export class Gate {
  private readonly resolver: Resolver
  private readonly store: Store
  private readonly waiting = new AcquireLines<Grant>()

  constructor(resolver: Resolver, store: Store) {
    this.resolver = resolver
    this.store = store
  }

  /** What the gate would say; charges nothing. @throws CallInvalid */
  async peek(call: Call): Promise<DecisionAnswer> {
    const request = this.ask(call)
    return new DecisionAnswer(await this.store.peek(request instanceof Promise ? await request : request))
  }

  /** Charges the call if all its limits have room, and no one of them if not. @throws CallInvalid */
  async admit(call: Call): Promise<Grant> {
    const request = this.ask(call)
    return this.charge(request instanceof Promise ? await request : request)
  }

  /** Charges the call and answers its grant; null where it has no room now. Never waits. @throws CallInvalid */
  async tryAcquire(call: Call): Promise<Grant | null> {
    const grant = await this.admit(call)
    return grant.allowed ? grant : null
  }

  /**
   * Waits in this process until the call is let in. Those who wait for the same limit are let
   * in in the order in which they came. A strategy is not asked: who calls this wants to wait.
   * @throws CallInvalid; RateLimitExceeded where it can never pass; the signal's reason where it aborts
   */
  async acquire(call: Call, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<Grant> {
    let rules = this.resolver.rules
    let request = await this.ask(call)
    return this.waiting.enter(
      linesOf(request),
      async () => {
        // Rules that change while it waits count at once.
        if (this.resolver.rules !== rules) {
          rules = this.resolver.rules
          request = await this.ask(call)
        }
        return this.attempt(request)
      },
      (grant) => grant.release().catch(() => false),
      signal,
    )
  }

  /**
   * Charges what has happened already, whether there is room or not; what is above a limit is
   * debt, paid back before the next call starts. Under an `id` it is charged once. It is not
   * settled again, but where it has an `id`. @throws CallInvalid
   */
  async record(call: Call): Promise<DecisionAnswer> {
    const request = await this.ask(call)
    const { decision } = await this.store.record(call.id === undefined ? { ...request, id: `~/${randomUUID()}`, forGood: true } : request)
    return new DecisionAnswer(decision)
  }

  /**
   * Says what a call has really used that was admitted under its `id`, by whatever process.
   * Returns whether it was open. @throws CallInvalid where it has no id
   */
  settle(call: Call, usage?: CallUsage): Promise<boolean> {
    return this.end(call, (request, granter) => this.store.settle(request, granter.actual(usage), 'end'))
  }

  /** Gives back everything that a call was charged which was admitted under its `id`: it was not made. @throws CallInvalid where it has no id */
  release(call: Call): Promise<boolean> {
    return this.end(call, (request) => this.store.release(request))
  }

  /** The rules changed: whoever waits may have room. */
  rulesChanged(): void {
    this.waiting.stirAll()
  }

  /** Who waits is told that nobody is let in any more. Resolves when nothing is on its way to be let in. */
  close(): Promise<void> {
    return this.waiting.close(new TollgateError('CLOSED', 'this Tollgate was closed, and lets nobody in any more'))
  }

  private async end(input: Call, how: (request: CallRequest, granter: Granter) => boolean | Promise<boolean>): Promise<boolean> {
    const call = validateCall(input)
    if (call.id === undefined) throw new CallInvalid('id: is needed to know which call ended (got undefined)')
    const request: CallRequest = { id: `~/${call.id}`, token: '', call, ...this.resolver.resolve(call, NOTHING) }
    const ended = await how(request, this.granter(call))
    if (ended) this.waiting.stir(linesOf(request))
    return ended
  }

  private async charge(request: CallRequest): Promise<Grant> {
    return new Grant(this.granter(request.call), await this.store.admit(request))
  }

  private async attempt(request: CallRequest): Promise<AcquireAttempt<Grant>> {
    const grant = await this.charge(request)
    const { decision } = grant
    if (decision.outcome === 'run') return { entered: grant }
    // Who is paused goes on when the rules change again.
    if (!WAITED_FOR.includes(decision.reason)) throw rejection(decision)
    const { rule, scopeValue } = decision.binding
    const unknownMs = decision.reason === 'paused' ? DEFAULTS.rulesRefreshMs : DEFAULTS.slotRecheckMs
    return { waitMs: decision.retryAfterMs ?? unknownMs, line: `${rule}/${scopeValue}` }
  }

  private granter(call: Call): Granter {
    return {
      store: this.store,
      actual: (usage) => actualCosts(usage, call, this.resolver.rules.prices),
      freed: (request) => this.waiting.stir(linesOf(request)),
    }
  }

  private ask(input: Call): CallRequest | Promise<CallRequest> {
    const call = validateCall(input)
    const costs = this.resolver.costs(call)
    if (costs instanceof Promise) return costs.then((known) => this.request(call, known))
    return this.request(call, costs)
  }

  private request(call: Call, costs: CallRequest['costs']): CallRequest {
    return { id: call.id === undefined ? '' : `~/${call.id}`, token: '', call, ...this.resolver.resolve(call, costs) }
  }
}
