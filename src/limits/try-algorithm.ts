import { DEFAULTS } from '../model/defaults.js'
import { ConfigInvalid } from '../model/errors.js'
import { DAY, MINUTE, SECOND } from '../model/time.js'
import { show } from '../validation/faults.js'
import { type AlgorithmLimit, answerOf, type RuleAlgorithm, stateAfter } from './algorithms/custom.js'

/** A question to an algorithm: the name of the function, and its arguments behind limit and state. */
export type TrialStep = readonly [name: 'used' | 'waitMs' | 'charge' | 'refund' | 'resetMs', nowMs: number, ...rest: number[]]

/** Questions from an empty state on, and what the twin answers; of a change what is used then. */
export interface Trial {
  readonly limit: AlgorithmLimit
  readonly steps: readonly TrialStep[]
  readonly answers: readonly number[]
}

const MOST_LUA = 8192
const REQUIRED = ['used', 'waitMs', 'charge', 'resetMs'] as const
const LIMITS: readonly AlgorithmLimit[] = [
  { capacity: 10, rate: 10 / MINUTE, windowMs: MINUTE },
  { capacity: 1, rate: 1 / SECOND, windowMs: SECOND },
  { capacity: 2500.5, rate: 1000 / DAY, windowMs: DAY },
]
const BEGIN_MS = 1_800_000_000_000
const ROUNDS = 30
/** As parts of the window, and of the capacity. */
const PAUSES = [0, 0, 0.01, 0.1, 0, 0.003, 0.5, 1.3]
const COSTS = [0.1, 0.3, 0.05, 1, 0.2]
/** Every so many charges ask no room: a call has cost more than its estimate. */
const OVERRUNS = 7
const REFUNDS = 3
/** Algorithms may round their waits to whole ms. */
const LATE_MS = 1
/** How much may be used when nothing is, as a part of the capacity. */
const LEFT = 1e-3

class TrialRun {
  readonly steps: TrialStep[] = []
  readonly answers: number[] = []
  private state: number[] = []

  constructor(
    private readonly name: string,
    private readonly algorithm: RuleAlgorithm,
    readonly limit: AlgorithmLimit,
  ) {}

  ask(name: 'used' | 'waitMs' | 'resetMs', nowMs: number, ...rest: number[]): number {
    const answer = this.answer(name, nowMs, ...rest)
    this.steps.push([name, nowMs, ...rest])
    this.answers.push(answer)
    return answer
  }

  /** An answer that is not compared with that of the Lua. */
  answer(name: 'used' | 'waitMs' | 'resetMs', nowMs: number, cost = 0, ahead = 0): number {
    const before = [...this.state]
    const answer = this.guarded(name, () => answerOf('it', this.algorithm[name](this.limit, this.state, nowMs, cost, ahead)))
    if (before.length !== this.state.length || before.some((one, n) => !Object.is(one, this.state[n])))
      this.refuse(name, 'must not change the state', this.state)
    return answer
  }

  change(name: 'charge' | 'refund', nowMs: number, amount: number, atMs = nowMs): void {
    this.guarded(name, () => {
      this.algorithm[name]?.(this.limit, this.state, nowMs, amount, atMs)
      stateAfter('it', this.state)
    })
    this.steps.push([name, nowMs, amount, atMs])
    this.answers.push(this.answer('used', nowMs))
  }

  refuse(name: string, must: string, got: unknown): never {
    const { capacity, windowMs } = this.limit
    throw new ConfigInvalid(`algorithms.${this.name}.${name} ${must} (got ${show(got)}, tried with ${capacity} per ${windowMs} ms)`)
  }

  private guarded<T>(name: string, work: () => T): T {
    try {
      return work()
    } catch (fault) {
      throw new ConfigInvalid(`algorithms.${this.name}.${name} fails: ${fault instanceof Error ? fault.message : String(fault)}`)
    }
  }
}

function tryTwin(name: string, algorithm: RuleAlgorithm, limit: AlgorithmLimit): Trial {
  const run = new TrialRun(name, algorithm, limit)
  const { capacity, windowMs } = limit
  let nowMs = BEGIN_MS
  let last = { atMs: nowMs, amount: 0 }
  const empty = run.ask('used', nowMs)
  if (empty !== 0) run.refuse('used', 'must be 0 for the empty state', empty)
  for (let round = 0; round < ROUNDS; round++) {
    nowMs += windowMs * (PAUSES[round % PAUSES.length] as number)
    const cost = capacity * (COSTS[round % COSTS.length] as number)
    const waitMs = run.ask('waitMs', nowMs, cost, 0)
    if (waitMs < DEFAULTS.longestWindowMs) {
      const moreMs = run.answer('waitMs', nowMs + waitMs, cost)
      if (moreMs > LATE_MS) run.refuse('waitMs', `must be 0 when the wait that it has told is over; it told ${waitMs} ms`, moreMs)
    }
    run.ask('waitMs', nowMs, cost, 0.3 * capacity)
    if (waitMs === 0 || round % OVERRUNS === 0) {
      run.change('charge', nowMs, cost)
      last = { atMs: nowMs, amount: cost }
    }
    if (round % REFUNDS === 0 && algorithm.refund !== undefined && last.amount > 0) {
      run.change('refund', nowMs, last.amount / 2, last.atMs)
      last = { ...last, amount: 0 }
    }
    run.ask('used', nowMs)
    const resetMs = run.ask('resetMs', nowMs)
    if (resetMs >= DEFAULTS.longestWindowMs) run.refuse('resetMs', 'must be less than 366 days', resetMs)
    const left = run.answer('used', nowMs + resetMs + LATE_MS)
    if (left > capacity * LEFT) run.refuse('used', `must be 0 when the time of resetMs is over, ${resetMs} ms; state and usage are forgotten then`, left)
  }
  return run
}

/** Checks an algorithm, and asks its twin what its Lua has to answer. @throws ConfigInvalid naming field, value and bound */
export function tryAlgorithm(name: string, algorithm: RuleAlgorithm): readonly Trial[] {
  const { lua } = algorithm
  if (typeof lua !== 'string' || lua.length === 0 || lua.length > MOST_LUA)
    throw new ConfigInvalid(`algorithms.${name}.lua must be the text of a Lua module, of 1 to ${MOST_LUA} characters (got ${show(lua)})`)
  for (const field of REQUIRED)
    if (typeof algorithm[field] !== 'function') throw new ConfigInvalid(`algorithms.${name}.${field} must be a function (got ${show(algorithm[field])})`)
  if (algorithm.refund !== undefined && typeof algorithm.refund !== 'function')
    throw new ConfigInvalid(`algorithms.${name}.refund must be a function (got ${show(algorithm.refund)})`)
  return LIMITS.map((limit) => tryTwin(name, algorithm, limit))
}

const CLOSE = 1e-6
const CLOSE_MS = 1e-2

/** Compares what the Lua of an algorithm has answered with what its twin did. @throws ConfigInvalid naming question and answers */
export function compareTrials(name: string, trials: readonly Trial[], answered: readonly string[]): void {
  const asked = trials.flatMap(({ limit, steps, answers }) => steps.map((step, n) => ({ limit, step, answer: answers[n] as number })))
  for (const [n, text] of answered.entries()) {
    if (text.startsWith('!')) throw new ConfigInvalid(`algorithms.${name}.lua fails: ${text.slice(1)}`)
    const { limit, step, answer } = asked[n] as (typeof asked)[number]
    const close = CLOSE * Math.max(1, answer) + (step[0].endsWith('Ms') ? CLOSE_MS : 0)
    if (Math.abs(Number(text) - answer) <= close) continue
    const [question, nowMs, ...rest] = step
    throw new ConfigInvalid(
      `algorithms.${name}.lua must answer as its twin does: ${question} with ${limit.capacity} per ${limit.windowMs} ms, ${rest.join(', ')} after ${nowMs - BEGIN_MS} ms (got ${text}, its twin ${answer})`,
    )
  }
}
