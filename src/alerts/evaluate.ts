import type { History, HistoryPoint, Spend } from '../history/answers.js'
import { periodMs } from '../limits/limit.js'
import { SPENDERS, type Spender } from '../model/spender.js'
import { DAY, durationText, MINUTE } from '../model/time.js'
import { ALERT_KINDS, type AlertKind, type AlertSpec } from '../policy/alert.js'
import { compileGlob } from '../validation/patterns.js'

/** What alerts are evaluated by: the history of the namespace. */
export interface AlertFigures {
  readonly history: Pick<History, 'rule' | 'agent' | 'known' | 'now' | 'spend'>
  /** The names of the rules in force. */
  rules(): readonly string[]
  /** Calls that all processes have let in unchecked, ever. */
  unchecked(): Promise<number>
}

/** Something that an alert watches for, as it is now. */
export interface AlertFinding {
  readonly alert: string
  readonly kind: AlertKind
  /** What it is about: a rule, an agent, `<by>/<name>`; '' for the namespace. */
  readonly subject: string
  readonly value: number
  readonly bound: number
  readonly sentence: string
}

/** Calls are too few for a share of them to mean anything. */
const LEAST_CALLS = 20
/** A usual day needs so many days with figures before today, … */
const LEAST_DAYS = 3
/** … and today has to be so far along that its part of a day is known. */
const LEAST_PART_OF_DAY = 1 / 24
/** How many spenders, and how many agents, are looked at. */
const MOST_LOOKED_AT = 200

const percent = (share: number) => `${Math.round(share * 1000) / 10} %`
const amountText = (amount: number) => (Number.isInteger(amount) ? String(amount) : amount.toPrecision(3))

/** A call in a line of a rule, or in one of those that Tollgate makes. */
function waiterIn(rule: string): string {
  if (rule.startsWith('~pause')) return 'a paused call'
  if (rule === '~queue') return 'a call without a worker'
  return rule.startsWith('~') ? 'a call whose agent refused calls' : `a call in a line of rule ${rule}`
}

export function kindOf(spec: AlertSpec): AlertKind {
  return ALERT_KINDS.find((kind) => spec[kind] !== undefined) as AlertKind
}

function matching(names: readonly string[], globs: readonly string[] | undefined): readonly string[] {
  if (globs === undefined) return names
  const checks = globs.map(compileGlob)
  return names.filter((name) => checks.some((check) => check(name)))
}

const total = (points: readonly HistoryPoint[], of: (point: HistoryPoint) => number) => points.reduce((sum, point) => sum + of(point), 0)

/** The share of today that is over, and the mean of the days before it that have figures. Days are those of UTC, the last one is today. */
function usualDay({ days }: Spend, nowMs: number): { usual: number; part: number } | undefined {
  const known = days.slice(0, -1).filter(({ amount }) => amount > 0)
  const part = (nowMs % DAY) / DAY
  if (known.length < LEAST_DAYS || part < LEAST_PART_OF_DAY) return undefined
  return { usual: known.reduce((sum, { amount }) => sum + amount, 0) / known.length, part }
}

/** Evaluates one alert. Nothing here is kept between two evaluations but the counts of unchecked calls. */
export class AlertEvaluator {
  /** Sums of unchecked calls, as they were at earlier evaluations. */
  private readonly unchecked: { readonly atMs: number; readonly sum: number }[] = []
  /** What was read of spenders since `begin`. */
  private readonly spends = new Map<string, Promise<readonly Spend[]>>()

  constructor(private readonly figures: AlertFigures) {}

  /** The alerts that follow are evaluated together: the figures of spenders, a page of script calls each, are read once for all of them. */
  begin(): void {
    this.spends.clear()
  }

  /** @returns what it finds now. @throws where the figures cannot be read: it is not known whether the alert holds */
  async evaluate(spec: AlertSpec, nowMs: number): Promise<readonly AlertFinding[]> {
    const kind = kindOf(spec)
    const overMs = periodMs(spec.over ?? '5m') ?? 5 * MINUTE
    const found = (subject: string, value: number, bound: number, sentence: string): AlertFinding => ({
      alert: spec.name,
      kind,
      subject,
      value,
      bound,
      sentence,
    })
    switch (kind) {
      case 'refusalRate':
        return this.refusals(spec, spec.refusalRate ?? 1, nowMs - overMs, found)
      case 'oldestWait':
        return this.oldest(spec, periodMs(spec.oldestWait ?? '') ?? DAY, found)
      case 'budgetSpent':
        return this.budgets(spec, ({ budget, name }, by) => {
          const part = budget === null || budget.amount <= 0 ? 0 : budget.used / budget.amount
          if (budget === null || part < (spec.budgetSpent ?? 1)) return undefined
          return found(`${by}/${name}`, part, spec.budgetSpent ?? 1, `${by} ${name} has spent ${percent(part)} of ${budget.rule}/${budget.limit}`)
        })
      case 'budgetPace':
        return this.budgets(spec, ({ budget, name }, by) => {
          if (budget === null || budget.runsOutMs === null || budget.endsMs === null || budget.runsOutMs >= budget.endsMs) return undefined
          const leftMs = Math.max(0, budget.runsOutMs - nowMs)
          const early = durationText(budget.endsMs - budget.runsOutMs)
          const sentence = `${budget.rule}/${budget.limit} of ${by} ${name} runs out in ${durationText(leftMs)}, ${early} before its window ends`
          return found(`${by}/${name}`, leftMs, budget.endsMs - nowMs, sentence)
        })
      case 'agent429':
        return this.refusalsOfAgents(spec, spec.agent429 ?? 1, nowMs - overMs, overMs, found)
      case 'unchecked':
        return this.uncheckedCalls(spec.unchecked ?? 1, nowMs, overMs, found)
      case 'unusualTraffic':
        return this.traffic(spec, spec.unusualTraffic ?? 2, nowMs, found)
      default:
        throw new Error(`unknown kind ${kind satisfies never}`)
    }
  }

  private async refusals(spec: AlertSpec, bound: number, fromMs: number, found: Found): Promise<AlertFinding[]> {
    const findings: AlertFinding[] = []
    for (const rule of matching(this.figures.rules(), spec.rules)) {
      const points = await this.figures.history.rule(rule, { fromMs })
      const arrived = total(points, (point) => point.arrived)
      const refused = total(points, (point) => point.refused)
      if (arrived < LEAST_CALLS || refused / arrived < bound) continue
      findings.push(found(rule, refused / arrived, bound, `rule ${rule} refuses ${percent(refused / arrived)} of its calls`))
    }
    return findings
  }

  private async oldest(spec: AlertSpec, boundMs: number, found: Found): Promise<AlertFinding[]> {
    const seen = await this.figures.history.now()
    if (seen === null) throw new Error('no process has looked at the lines for a minute')
    const longest = new Map<string, number>()
    for (const { rule, oldestMs } of seen.lines) longest.set(rule, Math.max(longest.get(rule) ?? 0, oldestMs ?? 0))
    return matching([...longest.keys()], spec.rules).flatMap((rule) => {
      const ms = longest.get(rule) ?? 0
      return ms < boundMs ? [] : [found(rule, ms, boundMs, `${waiterIn(rule)} has waited for ${durationText(ms)}`)]
    })
  }

  private async budgets(spec: AlertSpec, look: (spend: Spend, by: Spender) => AlertFinding | undefined): Promise<AlertFinding[]> {
    const findings: AlertFinding[] = []
    for (const by of spec.by === undefined ? SPENDERS : [spec.by]) {
      for (const unit of ['usd', 'tokens'] as const) {
        for (const spend of await this.spendOf(by, unit)) {
          if (spend.budget === null || matching([spend.budget.rule], spec.rules).length === 0) continue
          const finding = look(spend, by)
          if (finding !== undefined) findings.push(finding)
        }
      }
    }
    return findings
  }

  private spendOf(by: Spender, unit: 'usd' | 'tokens'): Promise<readonly Spend[]> {
    const name = `${by} ${unit}`
    let read = this.spends.get(name)
    if (read === undefined) {
      read = this.figures.history.spend({ by, unit, limit: MOST_LOOKED_AT })
      this.spends.set(name, read)
    }
    return read
  }

  private async refusalsOfAgents(spec: AlertSpec, bound: number, fromMs: number, overMs: number, found: Found): Promise<AlertFinding[]> {
    const findings: AlertFinding[] = []
    const { agents } = await this.figures.history.known()
    for (const agent of matching(agents, spec.agents).slice(0, MOST_LOOKED_AT)) {
      const refused = total(await this.figures.history.agent(agent, { fromMs }), (point) => point.limited429)
      if (refused >= bound) findings.push(found(agent, refused, bound, `agent ${agent} refused ${refused} calls in ${durationText(overMs)}`))
    }
    return findings
  }

  private async uncheckedCalls(bound: number, nowMs: number, overMs: number, found: Found): Promise<AlertFinding[]> {
    const sum = await this.figures.unchecked()
    this.unchecked.push({ atMs: nowMs, sum })
    while (this.unchecked.length > 1 && (this.unchecked[0]?.atMs ?? nowMs) < nowMs - DAY) this.unchecked.shift()
    const before = this.unchecked.find(({ atMs }) => atMs >= nowMs - overMs)?.sum ?? sum
    // The sums begin anew where they were reset.
    const letIn = sum < before ? sum : sum - before
    return letIn < bound ? [] : [found('', letIn, bound, `${letIn} calls were let in unchecked in ${durationText(overMs)}`)]
  }

  private async traffic(spec: AlertSpec, bound: number, nowMs: number, found: Found): Promise<AlertFinding[]> {
    const by = spec.by ?? 'org'
    const findings: AlertFinding[] = []
    for (const unit of ['usd', 'tokens'] as const) {
      for (const spend of await this.spendOf(by, unit)) {
        const known = usualDay(spend, nowMs)
        if (known === undefined || findings.some(({ subject }) => subject === `${by}/${spend.name}`)) continue
        // Against a whole usual day: a burst in the morning alone is not unusual yet.
        const times = spend.today / known.usual
        const atPace = spend.today / known.part / known.usual
        if (times < 1 || atPace < bound) continue
        const sentence = `${by} ${spend.name} goes at ${amountText(atPace)} times its usual day (${amountText(spend.today)} ${unit} so far, usually ${amountText(known.usual)})`
        findings.push(found(`${by}/${spend.name}`, atPace, bound, sentence))
      }
    }
    return findings
  }
}

type Found = (subject: string, value: number, bound: number, sentence: string) => AlertFinding
