import type { LimitSpec, RuleSpec } from '../../../src/index.js'
import { FACT_UNITS, type FactLimit, type FactScope, type FactScopes, type Form } from '../oracles/facts.js'

/** What an override makes of the limits of one scope value. */
export interface OverrideInFleet {
  readonly kind: 'org' | 'user' | 'agent' | 'team'
  readonly value: string
  readonly times: number | 'unlimited'
}

const WINDOWS_MS: Readonly<Record<string, number>> = { second: 1000, minute: 60_000, hour: 3_600_000, day: 86_400_000 }

/** Fleets use these words only; a window that is none of them is a mistake in a scenario. */
function windowMs(per: string | undefined): number {
  const known = WINDOWS_MS[per ?? '']
  if (known !== undefined) return known
  const [, count] = /^(\d+)s$/.exec(per ?? '') ?? []
  if (count === undefined) throw new Error(`a fleet has a limit per ${per}`)
  return Number(count) * 1000
}

function formOf(limit: LimitSpec, amount: number): Form {
  const ms = windowMs(limit.per)
  const perSecond = amount / (ms / 1000)
  switch (limit.algorithm) {
    case 'fixed_window':
      return { kind: 'fixed window', limit: amount, windowMs: ms }
    case 'sliding_log':
      return { kind: 'sliding log', limit: amount, windowMs: ms }
    case 'sliding_window':
      return { kind: 'sliding window', limit: amount, windowMs: ms }
    case 'leaky_bucket':
      return { kind: 'leaky bucket', perSecond }
    default:
      return { kind: 'bucket', perSecond, burst: limit.burst ?? amount }
  }
}

/** An override makes a limit smaller, never one that no call fits: what held one call goes on to hold one. @param perCall whether each call counts as one */
function times(form: Form, factor: number, perCall: boolean): Form {
  const multiplied = (amount: number) => (perCall ? Math.max(Math.min(1, amount), amount * factor) : amount * factor)
  switch (form.kind) {
    case 'bucket':
      return { ...form, perSecond: form.perSecond * factor, burst: multiplied(form.burst) }
    case 'leaky bucket':
      return { ...form, perSecond: form.perSecond * factor }
    case 'slots':
      return { ...form, slots: Math.floor(multiplied(form.slots)) }
    default:
      return { ...form, limit: multiplied(form.limit) }
  }
}

/** The limits of a rule as its agent would hold them. They are read from the rule's text, by nothing that Tollgate reads it with. */
export function limitsOfRule(rule: RuleSpec, overrides: readonly OverrideInFleet[], keysOf: (by: readonly FactScope[]) => readonly string[]): FactLimit[] {
  const by = [rule.scope].flat().filter((scope) => scope !== 'global') as FactScope[]
  const { agents, orgs, users, models } = rule.match ?? {}
  const listed = Object.entries({ agent: agents, org: orgs, user: users, model: models }).filter(([, list]) => list !== undefined)
  const where = listed.length === 0 ? {} : { where: Object.fromEntries(listed) as NonNullable<FactLimit['where']> }
  const named = (limit: LimitSpec, mode: FactLimit['mode']): FactLimit => {
    const common = { by, ...where, ...(mode === undefined ? {} : { mode }) }
    if (limit.concurrency !== undefined) {
      const form: Form = { kind: 'slots', slots: limit.concurrency, leaseMs: limit.lease === undefined ? 30_000 : windowMs(limit.lease) }
      return { ...common, name: `${rule.name}/concurrency`, form, ...formsOf(form, true) }
    }
    const unit = FACT_UNITS.find((one) => limit[one] !== undefined)
    if (unit === undefined) throw new Error(`a limit of ${rule.name} counts nothing`)
    const form = formOf(limit, limit[unit] as number)
    const prefix = mode === 'degraded' ? `${rule.name}~degraded` : rule.name
    return { ...common, name: `${prefix}/${limit.name ?? `${unit}/${limit.per}`}`, unit, form, ...formsOf(form, unit === 'requests' || unit === 'points') }
  }
  /** Overrides that count by a field of the rule's scope change the meters of that value. */
  const formsOf = (form: Form, perCall: boolean): { forms?: Record<string, Form | null> } => {
    const forms: Record<string, Form | null> = {}
    for (const key of keysOf(by)) {
      const values = key.split('/')
      const found = overrides.findLast(({ kind, value }) => by.includes(kind) && values[by.indexOf(kind)] === value)
      if (found !== undefined) forms[key] = found.times === 'unlimited' ? null : times(form, found.times, perCall)
    }
    return Object.keys(forms).length === 0 ? {} : { forms }
  }
  // A call in degraded mode is charged to these instead.
  const degrades = rule.degraded !== undefined
  return [...rule.limits.map((limit) => named(limit, degrades ? 'normal' : undefined)), ...(rule.degraded ?? []).map((limit) => named(limit, 'degraded'))]
}

/** Whether a rule covers a call. */
export function covers(rule: RuleSpec, scopes: FactScopes): boolean {
  const fields = [rule.scope].flat().filter((scope) => scope !== 'global') as FactScope[]
  const { agents, orgs, users, models } = rule.match ?? {}
  const fits = (list: readonly string[] | undefined, value: string | undefined) => list === undefined || (value !== undefined && list.includes(value))
  return (
    rule.enabled !== false &&
    fields.every((field) => scopes[field] !== undefined) &&
    fits(agents, scopes.agent) &&
    fits(orgs, scopes.org) &&
    fits(users, scopes.user) &&
    fits(models, scopes.model)
  )
}

/** Whether a rule that covers a call spaces its calls out. */
export function isSpaced(rules: readonly RuleSpec[], scopes: FactScopes, strategy: string | undefined): boolean {
  return rules.some((rule) => covers(rule, scopes) && (strategy ?? rule.strategy) === 'throttle')
}

/** Whether a call without room waits: every rule that covers it lets it. */
export function waitsForRoom(rules: readonly RuleSpec[], scopes: FactScopes, strategy: string | undefined): boolean {
  return rules.filter((rule) => covers(rule, scopes)).every((rule) => ['queue', 'throttle'].includes(strategy ?? rule.strategy ?? 'queue'))
}
