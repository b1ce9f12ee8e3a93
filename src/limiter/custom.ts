import { setTimeout as sleep } from 'node:timers/promises'
import { type Answer, DecisionAnswer } from '../admission/answer.js'
import type { Binding } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { ConfigInvalid, TollgateError } from '../model/errors.js'
import type { StateResult, Store } from '../store/store.js'
import type { CallMetrics, LimiterCounts } from '../telemetry/call-metrics.js'
import { show } from '../validation/faults.js'
import { checkCost, checkKey, type Limiter, orThrow } from './limiter.js'

/** An algorithm of a user's own. */
export interface CustomAlgorithm<State> {
  /**
   * Decides on a call. Must depend on its arguments only, and must not change them: it is called
   * again where another process has changed the state meanwhile.
   * @param state the state that it returned last for the key; null the first time, and after the state has expired
   * @param now the store's clock, in ms since the epoch
   * @returns whether the call passes, the state after it (anything JSON can hold), and after how
   *   many ms it would pass; the state of a call that does not pass is ignored
   */
  check(state: State | null, now: number, cost: number): CustomVerdict<State>
}

interface CustomVerdict<State> {
  readonly allowed: boolean
  readonly state: State
  /** Null, or left out: not known. */
  readonly retryAfterMs?: number | null | undefined
}

export interface CustomSpec<State> extends CustomAlgorithm<State> {
  /** Its states are kept under this name, for every process of the namespace. */
  name: string
  /** How long a state is kept after its last change; default a day. */
  keepMs?: number | undefined
}

/** The unit of the random wait before a call that lost the compare-and-set is decided again. */
const AGAIN_MS = 4

/**
 * A limiter with an algorithm of the user's own. The state of a key is read, the algorithm decides in this process, and the new state is written if
 * the state in the store is still the one that was read; otherwise the algorithm decides again. Calls of one process for one key follow one another,
 * so only other processes can come in between. If the process dies, the state is either written or not: the call is charged or not.
 */
export class CustomLimiter<State> implements Limiter {
  /** The last call for each key that has calls under way. */
  private readonly lastCalls = new Map<string, Promise<unknown>>()
  private readonly counts: LimiterCounts

  /** @throws ConfigInvalid naming field, value and bound */
  constructor(
    private readonly spec: CustomSpec<State>,
    private readonly store: Store,
    metrics: CallMetrics,
  ) {
    if (typeof spec.check !== 'function') throw new ConfigInvalid(`limiter.check must be a function (got ${show(spec.check)})`)
    if (typeof spec.name !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(spec.name))
      throw new ConfigInvalid(`limiter.name must be 1 to 64 letters, digits, . _ or -, and begin with a letter or digit (got ${show(spec.name)})`)
    if (spec.keepMs !== undefined && !(Number.isInteger(spec.keepMs) && spec.keepMs >= 1 && spec.keepMs <= DEFAULTS.longestWindowMs))
      throw new ConfigInvalid(`limiter.keepMs must be a whole number from 1 to ${DEFAULTS.longestWindowMs} (got ${show(spec.keepMs)})`)
    this.counts = metrics.limiter(spec.name)
  }

  check(key: string): Promise<Answer> {
    return this.consume(key, 1)
  }

  async consume(key: string, cost = 1): Promise<DecisionAnswer> {
    checkKey(key)
    checkCost(cost)
    const charge = () => this.charge(key, cost)
    const call = (this.lastCalls.get(key) ?? Promise.resolve()).then(charge, charge)
    this.lastCalls.set(key, call)
    try {
      const answer = await call
      if (answer.allowed) this.counts.allowed++
      else this.counts.refused++
      return answer
    } finally {
      if (this.lastCalls.get(key) === call) this.lastCalls.delete(key)
    }
  }

  async checkOrThrow(key: string, cost = 1): Promise<Answer> {
    return orThrow(await this.consume(key, cost))
  }

  async peek(key: string, cost = 1): Promise<Answer> {
    const found = await this.read(checkKey(key))
    return this.answer(key, this.decide(found, checkCost(cost)), found.nowMs)
  }

  async reset(key: string): Promise<void> {
    checkKey(key)
    for (let tries = 0; tries < DEFAULTS.customTries; tries++) {
      const { state } = await this.read(key)
      if (state === '') return
      // A key without a state begins with null, too.
      if ((await this.store.compareAndSet(this.spec.name, key, state, 'null', 1)).written) return
    }
    throw this.contended(key)
  }

  private async charge(key: string, cost: number): Promise<DecisionAnswer> {
    let found = await this.read(key)
    for (let tries = 1; tries <= DEFAULTS.customTries; tries++) {
      const decided = this.decide(found, cost)
      if (!decided.allowed) return this.answer(key, decided, found.nowMs)
      const next = await this.store.compareAndSet(this.spec.name, key, found.state, stateText(decided.state), this.spec.keepMs ?? DEFAULTS.customStateMs)
      if (next.written) return this.answer(key, decided, next.nowMs)
      found = next
      await sleep(Math.random() * AGAIN_MS * Math.min(tries, 8))
    }
    throw this.contended(key)
  }

  private read(key: string): Promise<StateResult> {
    return Promise.resolve(this.store.compareAndSet(this.spec.name, key, '', '', 1))
  }

  private decide(found: StateResult, cost: number): CustomVerdict<State> {
    const state = found.state === '' ? null : (JSON.parse(found.state) as State | null)
    const decided = this.spec.check(state, found.nowMs, cost) as CustomVerdict<State> | null | undefined
    if (typeof decided?.allowed !== 'boolean') throw new ConfigInvalid(`limiter.check must answer { allowed, state, retryAfterMs } (got ${show(decided)})`)
    const { retryAfterMs = null } = decided
    if (!decided.allowed && retryAfterMs !== null && !(Number.isFinite(retryAfterMs) && retryAfterMs >= 0))
      throw new ConfigInvalid(`limiter.check must answer a retryAfterMs that is a number from 0 or null (got ${show(retryAfterMs)})`)
    return decided
  }

  private answer(key: string, decided: CustomVerdict<State>, atMs: number): DecisionAnswer {
    if (decided.allowed) return new DecisionAnswer({ outcome: 'run', atMs, usage: [] })
    const { name } = this.spec
    const binding: Binding = { kind: 'limiter', rule: `~~${name}`, limit: name, scopeValue: key, unit: 'none' }
    return new DecisionAnswer({ outcome: 'reject', reason: 'limited', retryAfterMs: decided.retryAfterMs ?? null, binding, atMs, usage: [] })
  }

  private contended(key: string): TollgateError {
    return new TollgateError(
      'LIMITER_CONTENDED',
      `the state of ${show(key)} in limiter ${this.spec.name} was changed by others ${DEFAULTS.customTries} times in a row`,
    )
  }
}

function stateText(state: unknown): string {
  const text = JSON.stringify(state) as string | undefined
  if (text === undefined) throw new ConfigInvalid(`limiter.check must answer a state that JSON can hold (got ${show(state)})`)
  return text
}
