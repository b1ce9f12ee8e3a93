import { RequestInvalid } from '../model/errors.js'
import { SECOND } from '../model/time.js'
import { faultMessage, show } from '../validation/faults.js'
import type { RuleStats, Violations } from './answers.js'
import { NUMBER, numbersAfter, quantile, type SeriesPoint } from './point.js'
import type { Recorder } from './recorder.js'
import { SERIES, type SeriesStore, TOP } from './series.js'
import { VIOLATORS } from './tally.js'

/** How many names a list of violations shows. */
const SHOWN = 20

/** What the rules of the namespace have decided, in all its processes. */
export class StatsOfRules {
  constructor(
    private readonly series: SeriesStore,
    private readonly recorder: Recorder,
    private readonly names: () => readonly string[],
  ) {}

  async rule(name: string): Promise<RuleStats> {
    if (typeof name !== 'string' || name === '') throw new RequestInvalid(faultMessage('rule', 'must be the name of a rule', show(name)))
    const [stats] = await this.of([name])
    return stats as RuleStats
  }

  all(): Promise<readonly RuleStats[]> {
    return this.of(this.names())
  }

  /** Forgets what was counted until now. */
  async reset(): Promise<void> {
    await this.recorder.sync()
    await Promise.all([this.series.resetTotals(this.names().map(SERIES.rule)), this.series.forgetTops(VIOLATORS.map(TOP.violations))])
  }

  async violations(): Promise<Violations> {
    await this.recorder.sync()
    const [user = [], ip = [], endpoint = []] = await Promise.all(VIOLATORS.map((by) => this.series.top(TOP.violations(by), SHOWN)))
    return { user, ip, endpoint }
  }

  private async of(names: readonly string[]): Promise<RuleStats[]> {
    // What this process has counted is in the answer; what others have counted is at most two seconds old.
    await this.recorder.sync()
    const [totals, nowMs] = await Promise.all([this.series.totals(names.map(SERIES.rule)), this.series.nowMs()])
    return names.map((name, n) => statsOf(name, totals[n] ?? { slot: Math.floor(nowMs), numbers: new Map() }))
  }
}

function statsOf(rule: string, { slot, numbers }: SeriesPoint): RuleStats {
  const of = (name: string) => numbers.get(name) ?? 0
  const checks = of(NUMBER.checks)
  const exceeded = of(NUMBER.exceeded)
  const looks = numbersAfter(numbers, NUMBER.remainingLooks)
  const p95 = quantile(numbers, NUMBER.checkBucket, 0.95)
  return {
    rule,
    sinceMs: slot,
    checks,
    exceeded,
    exceededByLimit: Object.fromEntries(numbersAfter(numbers, NUMBER.exceededOf)),
    hitRate: checks === 0 ? 0 : exceeded / checks,
    averageRemaining: Object.fromEntries([...numbersAfter(numbers, NUMBER.remainingOf)].map(([limit, sum]) => [limit, sum / (looks.get(limit) ?? 1)])),
    storeErrors: of(NUMBER.storeErrors),
    unchecked: of(NUMBER.unchecked),
    checkMeanMs: checks === 0 ? null : of(NUMBER.checkMicros) / checks / SECOND,
    checkP95Ms: p95 === null ? null : p95 / SECOND,
  }
}
