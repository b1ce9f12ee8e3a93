import { z } from 'zod'
import type { Usage } from '../model/decision.js'
import { SPENDERS } from '../model/spender.js'
import { DAY } from '../model/time.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import type { RuleSpec } from '../policy/rule.js'
import { checkRequest } from '../validation/requests.js'
import type { Spend, SpendQuery } from './answers.js'
import { NUMBER, type SeriesPoint } from './point.js'
import { SERIES, type SeriesStore, TOP, TOP_SIZE } from './series.js'

export const spendSchema = z.strictObject({
  by: z.enum(SPENDERS),
  unit: z.enum(['usd', 'tokens']).default('usd'),
  limit: z.number().int().min(1).max(TOP_SIZE.spend).default(20),
})

const SHOWN_DAYS = 30
const PACE_DAYS = 7
/** Eight cases of ten lie so many standard deviations around the mean. */
const OF_TEN = 1.28
/** Where the days are too few to tell how much they differ: half of the pace. */
const UNKNOWN_SPREAD = 0.5
/** The pace of a day that has just begun would be that of its first call. */
const LEAST_DAY = 1 / 24

/** What spending needs to know of budgets. */
export interface Budgets {
  readonly specs: readonly RuleSpec[]
  readonly rules: readonly CompiledRule[]
  /** The usage of a rule for one scope value. */
  usage(rule: string, value: string): Promise<readonly Usage[]>
}

interface Pace {
  readonly perDay: number
  /** The standard deviation of a day. */
  readonly spread: number
}

/** @throws RequestInvalid */
export async function readSpend(series: SeriesStore, budgets: Budgets, query: SpendQuery): Promise<Spend[]> {
  const { by, unit, limit } = checkRequest(spendSchema, query, 'spend')
  const [ranked, nowMs] = await Promise.all([series.top(TOP.spend(by), TOP_SIZE.spend), series.nowMs()])
  const today = Math.floor(nowMs / DAY)
  const names = ranked.map(({ name }) => name)
  const found = await series.points(
    names.map((name) => SERIES.spend(by, name)),
    'd',
    today - 2 * SHOWN_DAYS,
    today,
  )
  const rows = names.map((name, n) => row(name, found[n] ?? [], unit, nowMs)).sort((one, other) => other.month - one.month)
  const rules = budgetRules(budgets, by, unit)
  return Promise.all(
    rows.slice(0, limit).map(async ({ spread, ...one }): Promise<Spend> => {
      const covering = rules.filter((rule) => rule.scopeValue({ agent: '', [by]: one.name }) !== null)
      return { ...one, budget: await budgetOf(covering, budgets.usage, unit, one, { perDay: one.pacePerDay, spread }, nowMs) }
    }),
  )
}

function row(name: string, points: readonly SeriesPoint[], unit: 'usd' | 'tokens', nowMs: number): Omit<Spend, 'budget'> & { readonly spread: number } {
  const today = Math.floor(nowMs / DAY)
  const amounts = new Map(points.map(({ slot, numbers }) => [slot, numbers.get(NUMBER[unit]) ?? 0]))
  const of = (day: number) => amounts.get(day) ?? 0
  const date = new Date(nowMs)
  const monthBegins = Math.floor(Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1) / DAY)
  const monthEnds = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1)
  const inMonth = points.filter(({ slot }) => slot >= monthBegins)
  const sum = (what: string) => inMonth.reduce((total, { numbers }) => total + (numbers.get(what) ?? 0), 0)
  const month = sum(NUMBER[unit])
  const pace = paceOf(of, Math.min(today, ...amounts.keys()), nowMs)
  const leftDays = (monthEnds - nowMs) / DAY
  const band = OF_TEN * pace.spread * Math.sqrt(leftDays)
  const monthAtPace = month + pace.perDay * leftDays
  const calls = sum(NUMBER.calls)
  return {
    name,
    today: of(today),
    month,
    pacePerDay: pace.perDay,
    monthAtPace,
    monthRange: [Math.max(month, monthAtPace - band), monthAtPace + band],
    calls,
    estimatedTokens: sum(NUMBER.estimatedTokens),
    actualTokens: sum(NUMBER.tokens),
    aboveEstimate: calls === 0 ? 0 : sum(NUMBER.aboveEstimate) / calls,
    days: Array.from({ length: SHOWN_DAYS }, (_, n) => ({ atMs: (today - SHOWN_DAYS + 1 + n) * DAY, amount: of(today - SHOWN_DAYS + 1 + n) })),
    spread: pace.spread,
  }
}

/** @param firstDay the first one with figures */
function paceOf(of: (day: number) => number, firstDay: number, nowMs: number): Pace {
  const today = Math.floor(nowMs / DAY)
  const full: number[] = []
  for (let day = Math.max(firstDay, today - PACE_DAYS + 1); day < today; day++) full.push(of(day))
  const passed = Math.max(LEAST_DAY, nowMs / DAY - today)
  const perDay = (full.reduce((sum, amount) => sum + amount, 0) + of(today)) / (full.length + passed)
  if (full.length < 2) return { perDay, spread: UNKNOWN_SPREAD * perDay }
  const mean = full.reduce((sum, amount) => sum + amount, 0) / full.length
  const variance = full.reduce((sum, amount) => sum + (amount - mean) ** 2, 0) / (full.length - 1)
  return { perDay, spread: Math.sqrt(variance) }
}

/** The rules that are budgets of spenders of a kind. */
function budgetRules({ specs, rules }: Budgets, by: string, unit: 'usd' | 'tokens'): CompiledRule[] {
  const ofKind = specs.filter(({ scope, enabled }) => enabled !== false && [scope].flat().length === 1 && [scope].flat()[0] === by)
  return ofKind.flatMap(({ name }) => {
    const rule = rules.find((one) => one.name === name)
    return rule?.limits.some((limit) => limit.unit === unit && limit.windowMs >= DAY) === true ? [rule] : []
  })
}

async function budgetOf(
  rules: readonly CompiledRule[],
  usage: Budgets['usage'],
  unit: 'usd' | 'tokens',
  { name }: Pick<Spend, 'name'>,
  pace: Pace,
  nowMs: number,
): Promise<Spend['budget']> {
  const found = await Promise.all(
    rules.map(async (compiled) => {
      const all = await usage(compiled.name, name)
      return { compiled, all: all.filter((one) => one.unit === unit && (one.windowMs ?? 0) >= DAY) }
    }),
  )
  const limits = found.flatMap(({ compiled, all }) =>
    all.map((one) => ({ one, algorithm: compiled.limits.find((limit) => limit.name === one.limit)?.algorithm })),
  )
  const [tightest] = limits.sort((one, other) => shareOf(other.one) - shareOf(one.one))
  if (tightest === undefined) return null
  const { rule, limit, amount, used, windowMs, resetMs } = tightest.one
  const endsMs = tightest.algorithm === 'fixed_window' && resetMs > 0 ? nowMs + resetMs : null
  const passed = endsMs === null || windowMs === null ? null : Math.min(1, Math.max(0.001, 1 - resetMs / windowMs))
  const paceFactor = passed === null || amount === 0 ? null : used / (amount * passed)
  return { rule, limit, amount, used, windowMs: windowMs ?? 0, endsMs, paceFactor, ...runsOut(amount - used, pace, nowMs, endsMs) }
}

function shareOf({ used, amount }: Usage): number {
  return amount === 0 ? 1 : used / amount
}

function runsOut(
  left: number,
  { perDay, spread }: Pace,
  nowMs: number,
  endsMs: number | null,
): Pick<NonNullable<Spend['budget']>, 'runsOutMs' | 'runsOutRange'> {
  if (left <= 0) return { runsOutMs: nowMs, runsOutRange: [nowMs, nowMs] }
  if (perDay <= 0) return { runsOutMs: null, runsOutRange: null }
  const days = left / perDay
  const atMs = nowMs + days * DAY
  if (endsMs !== null && atMs > endsMs) return { runsOutMs: null, runsOutRange: null }
  const differs = (OF_TEN * spread) / Math.sqrt(Math.max(LEAST_DAY, days))
  const earliest = nowMs + (left / (perDay + differs)) * DAY
  const latest = perDay > differs ? nowMs + (left / (perDay - differs)) * DAY : null
  return { runsOutMs: Math.ceil(atMs), runsOutRange: [Math.ceil(earliest), latest === null || (endsMs !== null && latest > endsMs) ? null : Math.ceil(latest)] }
}
