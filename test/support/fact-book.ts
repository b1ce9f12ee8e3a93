import type { AskedFact, Bounds, EndedFact, Fact, FactCosts, FactLimit, FaultFact, OracleName, Report, ResultFact } from '../simulation/oracles/facts.js'
import { judge } from '../simulation/oracles/judge.js'

/** Bounds of a fleet in one room. */
export const BOUNDS: Bounds = { stepMs: 100, lateMs: 300, lateSickMs: 2000, lostShare: 0.05, lostShareSick: 0.1, etaMs: 500, changeMs: 1500, leaseMs: 5000 }

type Without<T, K extends keyof T> = Partial<Omit<T, K>>

/** When a call waits: it is asked for at 0, and answered at once. */
interface Wait extends Without<AskedFact, 'fact' | 'call'> {
  readonly outcome?: 'run' | 'wait' | 'degrade' | 'refused' | 'unknown' | 'joined'
  readonly etaMs?: number | null
  readonly etaMaxMs?: number | null
  readonly answeredMs?: number
}

interface Run extends Without<EndedFact, 'fact' | 'call'> {
  /** When it is charged, and reaches its agent: a ms later unless that is told. null: no fact tells the charge. */
  readonly chargedMs?: number | null
  readonly startedMs?: number
  readonly by?: string
  readonly ms?: number
  /** false: facts tell no end. */
  readonly ends?: boolean
  readonly degraded?: boolean
  readonly firstMs?: number
  readonly unchecked?: boolean
}

/** Writes the facts of a small fleet by hand: one queue, one worker with ten places, and an app. */
export class FactBook {
  readonly facts: Fact[] = []
  private runs = 0

  constructor(...limits: FactLimit[]) {
    this.limits(0, ...limits)
    this.worker('w', 0)
  }

  note(fact: Fact): this {
    this.facts.push(fact)
    return this
  }

  limits(atMs: number, ...limits: FactLimit[]): this {
    return this.note({ fact: 'limits', atMs, limits })
  }

  worker(process: string, atMs: number, state: 'up' | 'gone' = 'up', places = 10): this {
    return this.note({ fact: 'worker', atMs, process, queue: 'calls', state, places })
  }

  fault(fault: FaultFact['fault'], atMs: number, more: Without<FaultFact, 'fact' | 'fault' | 'atMs'> = {}): this {
    return this.note({ fact: 'fault', fault, atMs, untilMs: atMs, text: fault, ...more })
  }

  /** A call is asked for, and answered. */
  call(call: string, { outcome = 'wait', etaMs, etaMaxMs, answeredMs, ...asked }: Wait = {}): this {
    const atMs = asked.atMs ?? 0
    const bare = { by: 'app', door: 'queue', queue: 'calls', scopes: { agent: 'a' }, costs: { requests: 1 }, priority: 0, waits: true } as const
    this.note({ fact: 'asked', call, ...bare, ...asked, atMs })
    return this.note({
      fact: 'answered',
      atMs: answeredMs ?? atMs,
      call,
      outcome,
      ...(etaMs === undefined ? {} : { etaMs }),
      ...(etaMaxMs === undefined ? {} : { etaMaxMs }),
    })
  }

  /** A run of a call: its charge, its start and its end. */
  run(
    call: string,
    atMs: number,
    { chargedMs = atMs, startedMs = (chargedMs ?? atMs) + 1, by = 'w', ms = 20, ends = true, degraded, firstMs, unchecked, ...ended }: Run = {},
  ): this {
    const run = ++this.runs
    if (chargedMs !== null)
      this.note({
        fact: 'charged',
        atMs: chargedMs,
        call,
        run,
        ...(degraded === undefined ? {} : { degraded }),
        ...(firstMs === undefined ? {} : { firstMs }),
        ...(unchecked === undefined ? {} : { unchecked }),
      })
    this.note({ fact: 'started', atMs: startedMs, call, run, by, attempt: 1 })
    if (ends) this.note({ fact: 'ended', atMs: startedMs + ms, call, run, how: 'done', actual: { requests: 1 }, reported: true, ...ended })
    return this
  }

  result(call: string, atMs: number, how: ResultFact['how'] = 'done', code?: string): this {
    return this.note({ fact: 'result', atMs, call, how, ...(code === undefined ? {} : { code }) })
  }

  /** A call from the question to the result: it starts at a time. */
  done(call: string, startMs: number, wait: Wait = {}, run: Run = {}): this {
    return this.call(call, wait)
      .run(call, startMs, run)
      .result(call, startMs + (run.ms ?? 20) + 2)
  }

  /** What one oracle, or all of them, find. The facts end a while after the last one. */
  reports(oracle?: OracleName, bounds: Bounds = BOUNDS): Report[] {
    const reports = judge(this.facts, bounds)
    return oracle === undefined ? reports : reports.filter((report) => report.oracle === oracle)
  }
}

/** A limit of all calls of an agent. */
export function agentLimit(form: FactLimit['form'], unit: keyof FactCosts = 'requests'): FactLimit {
  const bare = { name: `account/${form.kind}`, by: ['agent'] as const, form }
  return form.kind === 'slots' ? bare : { ...bare, unit }
}
