import { type AgentLimit, agentLimit, largerForm, ROUNDING, sameKind, windowAt } from './agent-limits.js'
import { countsMode, formOf, meterId, versionsDuring } from './coverage.js'
import type { Bounds, FactLimit, Form, Report } from './facts.js'
import { chargeMs, type History, type Run } from './history.js'
import { type SlotRun, slotReports } from './slots.js'
import { costsOf, isChargedLongBefore, isUnchecked, judgedStart, reportedByMs, settledByMs } from './starts.js'

interface Start {
  readonly run: Run
  readonly atMs: number
  readonly cost: number
  /** The time at which it may have been charged instead, where Redis did its command twice. */
  readonly firstMs: number | undefined
  /** Whether its charge is not told, so that it may have been up to a step before. */
  readonly untold: boolean
}

interface Debt {
  readonly run: Run
  readonly atMs: number
  readonly cost: number
  readonly knownMs: number
}

/** What one meter has to bear. */
interface Meter {
  readonly limit: string
  readonly key: string
  readonly starts: Start[]
  readonly debts: Debt[]
  readonly slots: SlotRun[]
}

/** A process that lets calls in while Redis is away reports afterwards what they used, up to this part of it. */
const REPORTED_NEARLY = 0.1

/** Starts of commands that were done twice, of one meter: more are not told apart. */
const MOST_TRIES = 40

/** Never over: what an agent sees in any meter never exceeds what its own bucket, window or slots would allow. */
export function neverOver(history: History, bounds: Bounds): Report[] {
  const reports: Report[] = []
  const meters = new Map<string, Meter>()
  for (const run of history.runs) {
    const { judgedMs, report } = judgedStart(history, run, bounds)
    if (report !== undefined) reports.push(report)
    if (isChargedLongBefore(history, run, bounds)) continue
    for (const met of boundTo(history, run, judgedMs, bounds)) {
      const meter: Meter = meters.get(met.id) ?? { limit: met.limit.name, key: met.key, starts: [], debts: [], slots: [] }
      meters.set(met.id, meter)
      const { atStart, debt } = costsOf(run, met)
      if (met.limit.unit === undefined && run.story.asked.door === 'record') continue
      if (met.limit.unit === undefined) meter.slots.push({ run, atMs: run.started.atMs })
      else if (atStart > 0) meter.starts.push({ run, atMs: judgedMs, firstMs: run.firstMs, cost: atStart, untold: run.chargedMs === undefined })
      if (debt > 0 && run.ended !== undefined) meter.debts.push({ run, atMs: run.ended.atMs, cost: debt, knownMs: knownMs(history, run, bounds) })
    }
  }
  for (const meter of meters.values()) {
    if (meter.slots.length > 0)
      reports.push(...slotReports(history, bounds, meterId(meter.limit, meter.key), meter.slots, (atMs) => formAt(history, bounds, meter, atMs)))
    if (meter.starts.length > 0) reports.push(...certainReports(history, bounds, meter))
  }
  return reports
}

/** When what a run cost above its estimate counts in Redis. A process that keeps it while Redis is away reports it as of that time only nearly. */
function knownMs(history: History, run: Run, bounds: Bounds): number {
  return isUnchecked(history, run, bounds) ? Number.POSITIVE_INFINITY : settledByMs(history, run, bounds)
}

/** The meters that every version in use around the start counts it in, with a bound. */
function boundTo(history: History, run: Run, judgedMs: number, { changeMs }: Bounds) {
  const [first = [], ...others] = history.metersDuring(run.story.asked.scopes, judgedMs - changeMs, judgedMs)
  return first.filter(
    (met) =>
      met.form !== null && others.every((version) => version.some(({ id, form }) => id === met.id && form !== null)) && countsMode(met.limit, run.degraded),
  )
}

/** What a meter may allow at a time: the most under any version that some process may still use. null: no bound is known. */
function formAt(history: History, bounds: Bounds, { limit, key }: Meter, atMs: number): Form | null {
  let form: Form | null = null
  for (const { limits } of versionsDuring(history.versions, oldestMs(history, bounds, atMs), atMs)) {
    const found: FactLimit | undefined = limits.find(({ name }) => name === limit)
    const one = found && formOf(found, key)
    if (!one || (form !== null && !sameKind(form, one))) return null
    form = form === null ? one : largerForm(form, one)
  }
  return form
}

/** Since when a version of the limits may be the one that a command was made by: a Redis that stands still does it when it goes on. */
function oldestMs({ faults }: History, { changeMs }: Bounds, atMs: number): number {
  const still = faults.filter(({ fault, untilMs, atMs: fromMs }) => fault === 'redis away' && fromMs <= atMs && untilMs >= atMs - changeMs)
  return Math.min(atMs, ...still.map((fault) => fault.atMs)) - changeMs
}

/** Where the time of charges is not told, each may have been up to a step before its start: what could be right is no fault. */
function relaxed(form: Form, stepMs: number, largest: number): Form {
  if (form.kind === 'leaky bucket') return { kind: 'bucket', perSecond: form.perSecond, burst: largest + (form.perSecond * stepMs) / 1000 }
  if (form.kind === 'bucket') return { ...form, burst: form.burst + (form.perSecond * stepMs) / 1000 }
  if (form.kind === 'sliding log' || form.kind === 'sliding window') return { ...form, windowMs: Math.max(1, form.windowMs - stepMs) }
  return form
}

/** A start that may as well have been charged before a border that it came shortly after. */
function acrossBorder({ untold, atMs }: Start, form: Form, stepMs: number): boolean {
  return untold && form.kind === 'fixed window' && windowAt(form, atMs) !== windowAt(form, atMs - stepMs)
}

type Step = { readonly atMs: number; readonly order: number } & (
  | { readonly start: Start }
  | { readonly debt: Debt }
  | { readonly forgets: (start: Start | Debt) => boolean; readonly clockByMs: number }
)

function stepsOf(history: History, { starts, debts }: Meter): Step[] {
  const steps: Step[] = [...debts.map((debt) => ({ atMs: debt.atMs, order: 0, debt })), ...starts.map((start) => ({ atMs: start.atMs, order: 2, start }))]
  for (const { fault, atMs, lostFromMs = Number.NEGATIVE_INFINITY, byMs = 0 } of history.faults) {
    if (fault === 'failover') steps.push({ atMs, order: 1, clockByMs: 0, forgets: (one) => one.atMs >= lostFromMs })
    // A clock that is set moves windows and refills buckets at once; what was used before may count no more.
    if (fault === 'redis clock') steps.push({ atMs, order: 1, clockByMs: byMs, forgets: () => true })
  }
  return steps.sort((a, b) => a.atMs - b.atMs || a.order - b.order)
}

/**
 * Where a command was done twice, each of its starts was charged at one of the two times: the first time if it had room then. What is exceeded however
 * they are told apart is reported: all at the first time, all at the second, or each at the first time that has room for it.
 */
function certainReports(history: History, bounds: Bounds, meter: Meter): Report[] {
  const reports = rateReports(history, bounds, meter)
  if (reports.length === 0 || meter.starts.every(({ firstMs }) => firstMs === undefined)) return reports
  const early = { ...meter, starts: meter.starts.map((start) => ({ ...start, atMs: start.firstMs ?? start.atMs })) }
  const others = [early, inRoom(history, bounds, early, meter)].map((one) => new Set(rateReports(history, bounds, one).flatMap(({ calls }) => calls)))
  return reports.filter(({ calls }) => others.every((other) => calls.every((call) => other.has(call))))
}

/** Of starts that had no room at the first time, each at the second. */
function inRoom(history: History, bounds: Bounds, early: Meter, late: Meter): Meter {
  let meter = early
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const [over] = rateReports(history, bounds, meter)
    const place = meter.starts.findIndex((start) => start.firstMs === start.atMs && start.run.story.id === over?.calls[0])
    if (place < 0) break
    meter = { ...meter, starts: meter.starts.map((start, index) => (index === place ? (late.starts[index] as Start) : start)) }
  }
  return meter
}

function rateReports(history: History, bounds: Bounds, meter: Meter): Report[] {
  const reports: Report[] = []
  const untold = meter.starts.some((start) => start.untold)
  const largest = Math.max(...meter.starts.map(({ cost }) => cost))
  let aheadMs = 0
  const byClock = (one: Form) => (one.kind === 'fixed window' ? { ...one, aheadMs } : one)
  const allowed = (one: Form) => (untold ? relaxed(byClock(one), bounds.stepMs, largest) : byClock(one))
  const steps = stepsOf(history, meter)
  let agent: AgentLimit | undefined
  let form: Form | null = null
  let kept: (Start | Debt)[] = []
  const begin = () => {
    if (form !== null) agent = agentLimit(allowed(form))
  }
  const adopt = (atMs: number) => {
    const next = formAt(history, bounds, meter, atMs)
    if (next !== null && form !== null && sameKind(next, form)) agent?.change(atMs, allowed(next))
    const anew = next !== null && (form === null || !sameKind(next, form))
    form = next
    if (anew) begin()
  }
  const add = (one: Start | Debt): number => {
    kept.push(one)
    if (agent === undefined) return 0
    if ('knownMs' in one) {
      agent.owe(one.atMs, one.cost, chargeMs(one.run))
      return 0
    }
    return agent.charge(one.atMs, one.cost, `${one.run.story.id}#${one.run.started.run}`)
  }
  const changes = changeTimes(history, bounds)
  let nextChange = 0
  const adoptUntil = (atMs: number) => {
    while (nextChange < changes.length && (changes[nextChange] as number) <= atMs) adopt(changes[nextChange++] as number)
  }
  for (const step of steps) {
    adoptUntil(step.atMs)
    if ('forgets' in step) {
      // What is not forgotten counts again, each charge under the form of its own time.
      const again = kept.filter((one) => !step.forgets(one))
      kept = []
      aheadMs += step.clockByMs
      agent = undefined
      form = null
      nextChange = 0
      for (const one of again) {
        adoptUntil(one.atMs)
        add(one)
      }
      adoptUntil(step.atMs)
    } else if ('debt' in step) {
      add(step.debt)
    } else {
      const { start } = step
      if (form !== null && acrossBorder(start, byClock(form), bounds.stepMs)) continue
      const over = add(start)
      if (over <= ROUNDING || form === null || isUnchecked(history, start.run, bounds)) continue
      let unknown = 0
      for (const { run, atMs, cost } of meter.starts) {
        if (!run.unchecked || atMs > start.atMs) continue
        unknown += start.atMs < reportedByMs(history, run) ? cost : REPORTED_NEARLY * cost
      }
      for (const { run, atMs, cost, knownMs: fromMs } of meter.debts) {
        if (atMs > start.atMs) continue
        if (start.atMs < fromMs) unknown += cost
        else if (run.unchecked) unknown += REPORTED_NEARLY * cost
      }
      if (over - unknown <= ROUNDING) continue
      reports.push(overReport(meter, form, start, over - unknown))
    }
  }
  return reports
}

/** When what a meter allows may change: with each version, and when the one before it is used no more. */
function changeTimes({ versions, faults }: History, { changeMs }: Bounds): number[] {
  const still = faults.flatMap(({ fault, atMs, untilMs }) => (fault === 'redis away' ? [atMs, untilMs + changeMs + 1] : []))
  return [...versions.flatMap(({ atMs }, index) => (index === 0 ? [atMs] : [atMs, atMs + changeMs])), ...still].sort((a, b) => a - b)
}

function amountOf(form: Form): string {
  switch (form.kind) {
    case 'bucket':
      return `${form.perSecond}/s, burst ${form.burst}`
    case 'leaky bucket':
      return `${form.perSecond}/s`
    case 'slots':
      return `${form.slots}`
    case 'fixed window':
    case 'sliding log':
    case 'sliding window':
      return `${form.limit} per ${form.windowMs} ms`
    default:
      return form satisfies never
  }
}

function overReport(meter: Meter, form: Form, { run, atMs, cost }: Start, over: number): Report {
  return {
    oracle: 'never over',
    atMs,
    text: `${meterId(meter.limit, meter.key)} (${form.kind}, ${amountOf(form)}) is exceeded by ${over.toFixed(3)} with the start of ${run.story.id}, which cost ${cost}`,
    calls: [run.story.id],
  }
}
