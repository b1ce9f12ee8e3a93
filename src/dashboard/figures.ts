import type { Health } from '../health/health.js'
import type { HistoryPoint, LinesNow, Spend } from '../history/answers.js'
import type { Usage } from '../model/decision.js'
import type { Spender } from '../model/spender.js'
import { MINUTE, SECOND } from '../model/time.js'
import type { RuleSpec } from '../policy/rule.js'
import type { Tollgate } from '../tollgate.js'
import type { LineHistory, SPENT } from './model.js'

/** How long figures of whole minutes are good for: the last minute still grows. */
const MINUTES_GOOD_MS = 10 * SECOND
const MOST_REMEMBERED = 500
const SPENDERS_SHOWN = 20
const RECENT_MINUTES = 5
const SHARED_SCOPES = new Set(['global', 'agent', 'endpoint', 'model'])

/** Whether all tenants share the limits of a rule. */
export function isSharedByAll({ scope }: Pick<RuleSpec, 'scope'>): boolean {
  return [scope].flat().every((one) => SHARED_SCOPES.has(one))
}

/** A line in parts: rule and scope value. */
export function partsOfLine(line: string): { readonly rule: string; readonly scopeValue: string } {
  const at = line.indexOf('/')
  return at === -1 ? { rule: line, scopeValue: '*' } : { rule: line.slice(0, at), scopeValue: line.slice(at + 1) }
}

/** Calls per second over the last minutes that are over; of a history that has just begun, over the minute that is not. */
function startingPerSecond(points: readonly HistoryPoint[]): number {
  const first = points.findIndex(({ depth, started, arrived }) => depth !== null || started + arrived > 0)
  const known = first === -1 ? [] : points.slice(first)
  const over = known.slice(-RECENT_MINUTES - 1, -1)
  const [last] = known.slice(-1)
  if (over.length === 0) return last === undefined ? 0 : last.started / Math.max(1, Math.min(MINUTE, Date.now() - last.atMs) / SECOND)
  return over.reduce((sum, { started }) => sum + started, 0) / (over.length * (MINUTE / SECOND))
}

/** The history of an hour, in the form in which a row shows it. */
export function lineHistory(points: readonly HistoryPoint[]): LineHistory {
  const last = points.slice(-RECENT_MINUTES)
  const most = (field: 'waitP50Ms' | 'waitP95Ms') => {
    const known = last.map((point) => point[field]).filter((value) => value !== null)
    return known.length === 0 ? null : Math.max(...known)
  }
  return {
    depths: points.map(({ depth }) => depth),
    startingPerSecond: startingPerSecond(points),
    waitP50Ms: most('waitP50Ms'),
    waitP95Ms: most('waitP95Ms'),
  }
}

/**
 * What the pages read of a Tollgate, each figure once for all viewers: answers are remembered for as long as they are good for, at most 500 of them. A
 * question that is under way is not asked twice.
 */
export class Figures {
  private readonly answers = new Map<string, { readonly untilMs: number; readonly answer: Promise<unknown> }>()

  constructor(readonly source: Tollgate) {}

  /** An answer that is good for a while. */
  remember<Answer>(key: string, goodForMs: number, ask: () => Promise<Answer>): Promise<Answer> {
    const nowMs = performance.now()
    const known = this.answers.get(key)
    if (known !== undefined && known.untilMs > nowMs) return known.answer as Promise<Answer>
    if (this.answers.size >= MOST_REMEMBERED)
      for (const [name, one] of this.answers) if (one.untilMs <= nowMs || this.answers.size >= MOST_REMEMBERED) this.answers.delete(name)
    const answer = ask()
    this.answers.set(key, { untilMs: nowMs + goodForMs, answer })
    // What failed is asked again.
    answer.catch(() => this.answers.delete(key))
    return answer
  }

  health(): Promise<Health> {
    return this.remember('health', SECOND / 2, () => this.source.health())
  }

  /** The last hour, per minute. */
  hour(of: 'namespace' | 'rule' | 'agent' | 'line', name = ''): Promise<readonly HistoryPoint[]> {
    const { history } = this.source
    return this.remember(`${of} ${name}`, MINUTES_GOOD_MS, () => {
      const query = { fromMs: undefined, step: 'minute' } as const
      return of === 'namespace' ? history.namespace(query) : history[of](name, query)
    })
  }

  /** Null where a line has no history. */
  async line(line: string): Promise<LineHistory | null> {
    const points = await this.hour('line', line).catch(() => [])
    return points.length === 0 ? null : lineHistory(points)
  }

  /** The last look of the dispatcher at all lines. */
  linesNow(): Promise<LinesNow | null> {
    return this.remember('lines now', SECOND / 2, () => this.source.history.now())
  }

  /** The agents and lines that have a history. */
  known(): ReturnType<Tollgate['history']['known']> {
    return this.remember('known', MINUTES_GOOD_MS, () => this.source.history.known())
  }

  spend(by: Spender, unit: (typeof SPENT)[number]): Promise<readonly Spend[]> {
    return this.remember(`spend ${by} ${unit}`, MINUTES_GOOD_MS, () => this.source.history.spend({ by, unit, limit: SPENDERS_SHOWN }))
  }

  /** The usage of a rule for a scope value; empty where the rule is gone. */
  usage(rule: string, value: string): Promise<readonly Usage[]> {
    return this.remember(`usage ${rule} ${value}`, SECOND / 2, () => this.source.meters.get({ rule, value }).catch(() => []))
  }
}
