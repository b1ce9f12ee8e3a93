import { randomUUID } from 'node:crypto'
import { Answered } from '../admission/answer.js'
import { rejection } from '../admission/rejection.js'
import type { AskedCall } from '../admission/request.js'
import type { Demands } from '../admission/resolver.js'
import type { Call } from '../model/call.js'
import { NOTHING } from '../model/cost.js'
import type { RejectDecision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid, TollgateError } from '../model/errors.js'
import { actualCosts } from '../pricing/costs.js'
import type { CallUsage } from '../pricing/usage.js'
import type { Store } from '../store/store.js'
import { validateCall } from '../validation/call.js'
import { linesOf, type Try, WaitingRoom } from './acquire-line.js'
import { Grant, type Granter } from './grant.js'

/** Why a call is refused that may pass later: who waits in `acquire` goes on waiting. */
const WAITED_FOR: readonly RejectDecision['reason'][] = ['limited', 'paused', 'unavailable']

/** The gate without the queue: ask, ask and charge, wait until there is room. */
export class Checks {
  private readonly demands: Demands
  private readonly store: Store
  private readonly waiting = new WaitingRoom<Grant>()

  constructor(demands: Demands, store: Store) {
    this.demands = demands
    this.store = store
  }

  /** What the gate would say; charges nothing. @throws CallInvalid */
  async peek(call: Call): Promise<Answered> {
    const asked = this.ask(call)
    return new Answered(await this.store.peek(asked instanceof Promise ? await asked : asked))
  }

  /** Charges the call if all its limits have room, and no one of them if not. @throws CallInvalid */
  async admit(call: Call): Promise<Grant> {
    const asked = this.ask(call)
    return this.charge(asked instanceof Promise ? await asked : asked)
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
    let rules = this.demands.rules
    let asked = await this.ask(call)
    return this.waiting.enter(
      linesOf(asked),
      async () => {
        // Rules that change while it waits count at once.
        if (this.demands.rules !== rules) {
          rules = this.demands.rules
          asked = await this.ask(call)
        }
        return this.attempt(asked)
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
  async record(call: Call): Promise<Answered> {
    const asked = await this.ask(call)
    const { decision } = await this.store.record(call.id === undefined ? { ...asked, id: `~/${randomUUID()}`, forGood: true } : asked)
    return new Answered(decision)
  }

  /**
   * Says what a call has really used that was admitted under its `id`, by whatever process.
   * Returns whether it was open. @throws CallInvalid where it has no id
   */
  settle(call: Call, usage?: CallUsage): Promise<boolean> {
    return this.end(call, (asked, granter) => this.store.settle(asked, granter.actual(usage), 'end'))
  }

  /** Gives back everything that a call was charged which was admitted under its `id`: it was not made. @throws CallInvalid where it has no id */
  release(call: Call): Promise<boolean> {
    return this.end(call, (asked) => this.store.release(asked))
  }

  /** The rules changed: whoever waits may have room. */
  rulesChanged(): void {
    this.waiting.stirAll()
  }

  /** Who waits is told that nobody is let in any more. Resolves when nothing is on its way to be let in. */
  close(): Promise<void> {
    return this.waiting.close(new TollgateError('CLOSED', 'this Tollgate was closed, and lets nobody in any more'))
  }

  private async end(input: Call, how: (asked: AskedCall, granter: Granter) => boolean | Promise<boolean>): Promise<boolean> {
    const call = validateCall(input)
    if (call.id === undefined) throw new CallInvalid('id: is needed to know which call ended (got undefined)')
    const asked: AskedCall = { id: `~/${call.id}`, token: '', call, demand: this.demands.demand(call, NOTHING) }
    const ended = await how(asked, this.granter(call))
    if (ended) this.waiting.stir(linesOf(asked))
    return ended
  }

  private async charge(asked: AskedCall): Promise<Grant> {
    return new Grant(this.granter(asked.call), await this.store.admit(asked))
  }

  private async attempt(asked: AskedCall): Promise<Try<Grant>> {
    const grant = await this.charge(asked)
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
      actual: (usage) => actualCosts(usage, call, this.demands.rules.prices),
      freed: (asked) => this.waiting.stir(linesOf(asked)),
    }
  }

  private ask(input: Call): AskedCall | Promise<AskedCall> {
    const call = validateCall(input)
    const costs = this.demands.costs(call)
    if (costs instanceof Promise) return costs.then((known) => this.asked(call, known))
    return this.asked(call, costs)
  }

  private asked(call: Call, costs: AskedCall['demand']['costs']): AskedCall {
    return { id: call.id === undefined ? '' : `~/${call.id}`, token: '', call, demand: this.demands.demand(call, costs) }
  }
}
