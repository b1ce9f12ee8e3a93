import { z } from 'zod'
import { RequestInvalid } from '../model/errors.js'
import { DAY, HOUR, MINUTE } from '../model/time.js'
import type { RuleSpec } from '../policy/rule.js'
import { callName } from '../validation/call.js'
import { checkRequest } from '../validation/requests.js'
import type { CallHistory, History, HistoryPoint, HistoryQuery, LimitedBy, LinesNow, Spend, SpendQuery } from './answers.js'
import { groupedBy } from './line-points.js'
import { NUMBER, type Numbers, numbersAfter, quantile, WAITING_MS } from './point.js'
import { limitKey, type Seen, sharedByAll } from './seen.js'
import { SERIES, type SeriesStore, TOP, TOP_SIZE } from './series.js'
import { type Budgets, readSpend } from './spend.js'

const STEP_MS = { minute: MINUTE, hour: HOUR } as const
const RESOLUTION_OF = { minute: 'm', hour: 'h' } as const
const SPAN_MS = { minute: HOUR, hour: DAY } as const
const KEPT_MS = { minute: DAY, hour: 30 * DAY } as const

const timeMs = z.number().min(0).max(8.64e15)
export const historySchema = z.strictObject({ fromMs: timeMs.optional(), toMs: timeMs.optional(), step: z.enum(['minute', 'hour']).default('minute') })
export const limitedBySchema = z.strictObject({ overMs: z.number().min(MINUTE).max(DAY).default(HOUR) })

/** What the dispatcher saw of the lines is current for so long. */
const CURRENT_MS = MINUTE
const WHO_AT_MOST = 8

/** Reads the history (`tollgate.history`). */
export class HistoryReader implements History {
  private readonly series: SeriesStore

  constructor(
    private readonly parts: {
      readonly series: SeriesStore
      /** The last look of the dispatcher. */
      readonly seen: () => Promise<Seen | null>
      readonly budgets: Budgets
      readonly call: (id: string) => Promise<CallHistory>
    },
  ) {
    this.series = parts.series
  }

  spend(query: SpendQuery): Promise<readonly Spend[]> {
    return readSpend(this.series, this.parts.budgets, query)
  }

  call(id: string): Promise<CallHistory> {
    return this.parts.call(checkRequest(callName, id, 'id'))
  }

  private specs(): readonly RuleSpec[] {
    return this.parts.budgets.specs
  }

  namespace(query: HistoryQuery = {}): Promise<readonly HistoryPoint[]> {
    return this.points(SERIES.namespace, query)
  }

  rule(name: string, query: HistoryQuery = {}): Promise<readonly HistoryPoint[]> {
    return this.points(SERIES.rule(name), query)
  }

  agent(name: string, query: HistoryQuery = {}): Promise<readonly HistoryPoint[]> {
    return this.points(SERIES.agent(name), query)
  }

  line(line: string, query: HistoryQuery = {}): Promise<readonly HistoryPoint[]> {
    return this.points(SERIES.line(line), query)
  }

  async known(): Promise<{ readonly rules: readonly string[]; readonly agents: readonly string[]; readonly lines: readonly string[] }> {
    const rules = this.specs().map(({ name }) => name)
    const [agents, ...lines] = await Promise.all([
      this.series.top(TOP.agents, TOP_SIZE.agents),
      ...rules.map((rule) => this.series.top(TOP.lines(rule), TOP_SIZE.line)),
    ])
    const namesOf = (ranked: readonly { readonly name: string }[]) => ranked.map(({ name }) => name)
    return { rules, agents: namesOf(agents), lines: lines.flatMap(namesOf) }
  }

  async now(): Promise<LinesNow | null> {
    const [seen, nowMs] = await Promise.all([this.parts.seen(), this.series.nowMs()])
    if (seen === null || nowMs - seen.atMs > CURRENT_MS) return null
    const { atMs, waiting, lineCount, lines } = seen
    const shown = lines.map(({ rule, scopeValue, limit, depth, oldestMs, sinceMs, who }) => ({ rule, scopeValue, limit, depth, oldestMs, sinceMs, who }))
    return { atMs, waiting, lineCount, lines: shown }
  }

  async limitedBy(query: { overMs?: number | undefined } = {}): Promise<readonly LimitedBy[]> {
    const { overMs } = checkRequest(limitedBySchema, query, 'limitedBy')
    const [seen, nowMs] = await Promise.all([this.parts.seen(), this.series.nowMs()])
    const current = seen !== null && nowMs - seen.atMs <= CURRENT_MS ? seen : null
    // The lines of rules, and those of blocks, pauses and queues.
    const rules = new Set([...this.specs().map(({ name }) => name), '~block', '~queue', '~returned', ...(current?.lines ?? []).map(({ rule }) => rule)])
    for (const kind of ['agent', 'user', 'team', 'org', 'rule']) rules.add(`~pause.${kind}`)
    const names = [...rules]
    const slot = (ms: number) => Math.floor(ms / MINUTE)
    const found = await this.series.points(names.map(SERIES.rule), 'm', slot(nowMs - overMs), slot(nowMs))
    const waits = found.flatMap((points, n) => {
      const sums = new Map<string, number>()
      for (const { numbers } of points)
        for (const [limit, ms] of numbersAfter(numbers, NUMBER.waitingOf)) sums.set(limit, (sums.get(limit) ?? 0) + ms * WAITING_MS)
      return [...sums].map(([limit, waitingMs]) => ({ rule: names[n] as string, limit, waitingMs }))
    })
    const total = waits.reduce((sum, { waitingMs }) => sum + waitingMs, 0)
    return waits
      .sort((one, other) => other.waitingMs - one.waitingMs)
      .map(({ rule, limit, waitingMs }): LimitedBy => {
        const lines = (current?.lines ?? []).filter((line) => line.rule === rule && line.limit === limit)
        const { calls = 0, sinceMs = null } = current?.limits[limitKey(rule, limit)] ?? {}
        const share = total === 0 ? 0 : waitingMs / total
        return {
          rule,
          limit,
          scopeValue: lines[0]?.scopeValue ?? null,
          share,
          waitingMs,
          calls,
          sinceMs,
          shared: sharedByAll(this.specs(), rule),
          who: whoOf(lines),
        }
      })
  }

  private async points(name: string, query: HistoryQuery): Promise<readonly HistoryPoint[]> {
    const { step, fromMs, toMs } = checkRequest(historySchema, query, 'history')
    const nowMs = await this.series.nowMs()
    const stepMs = STEP_MS[step]
    const to = Math.min(toMs ?? nowMs, nowMs)
    const from = Math.max(fromMs ?? to - SPAN_MS[step] + stepMs, nowMs - KEPT_MS[step] + stepMs)
    if ((fromMs ?? 0) > (toMs ?? Number.POSITIVE_INFINITY)) throw new RequestInvalid(`fromMs: must not be after toMs (got ${fromMs} and ${toMs})`)
    const first = Math.floor(from / stepMs)
    const last = Math.floor(to / stepMs)
    if (last < first) return []
    const names = name === SERIES.namespace ? [name] : [name, SERIES.namespace]
    const [own = [], all = own] = await this.series.points(names, RESOLUTION_OF[step], first, last)
    const bySlot = new Map(own.map(({ slot, numbers }) => [slot, numbers]))
    // Where the dispatcher has looked at all lines, and not written of this one, it was empty.
    const looked = new Map(all.map(({ slot, numbers }) => [slot, numbers.get(NUMBER.seenMs) ?? 0]))
    return Array.from({ length: last - first + 1 }, (_, n) => point(bySlot.get(first + n) ?? new Map(), (first + n) * stepMs, looked.get(first + n) ?? 0))
  }
}

/** @param seenMs for how long the dispatcher looked at the lines */
function point(numbers: Numbers, atMs: number, seenMs: number): HistoryPoint {
  const of = (name: string) => numbers.get(name) ?? 0
  const waitingMs = of(NUMBER.waiting) * WAITING_MS
  return {
    atMs,
    arrived: of(NUMBER.arrived),
    started: of(NUMBER.started),
    depth: seenMs === 0 ? null : waitingMs / seenMs,
    deepest: seenMs === 0 ? null : of(NUMBER.deepest),
    waitingMs,
    oldestMs: numbers.get(NUMBER.oldestMs) ?? null,
    waitP50Ms: quantile(numbers, NUMBER.waitBucket, 0.5),
    waitP95Ms: quantile(numbers, NUMBER.waitBucket, 0.95),
    done: of(NUMBER.done),
    failed: of(NUMBER.failed),
    refused: of(NUMBER.refused),
    expired: of(NUMBER.expired),
    limited429: of(NUMBER.returned),
    estimatedTokens: of(NUMBER.estimatedTokens),
    tokens: of(NUMBER.tokens),
    usd: of(NUMBER.usd),
  }
}

function whoOf(lines: readonly { readonly who: readonly { readonly org: string; readonly calls: number }[] }[]): { org: string; calls: number }[] {
  const all = groupedBy(
    lines.flatMap(({ who }) => who),
    ({ org }) => org,
  )
  return [...all]
    .map(([org, counts]) => ({ org, calls: counts.reduce((sum, { calls }) => sum + calls, 0) }))
    .sort((one, other) => other.calls - one.calls)
    .slice(0, WHO_AT_MOST)
}
