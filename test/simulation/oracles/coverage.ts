import type { FactCosts, FactLimit, FactScope, FactScopes, Form } from './facts.js'

/** The limits in force from a time on. */
export interface Version {
  readonly atMs: number
  readonly limits: readonly FactLimit[]
}

/** A limit as it counts one call: which meter, how much it allows there (null: without a bound), and what the call is estimated to cost. */
export interface MetRef {
  readonly id: string
  readonly limit: FactLimit
  readonly key: string
  readonly form: Form | null
}

/** The values of the limit's `by`; null where the limit does not count the call. */
export function keyOf(limit: FactLimit, scopes: FactScopes): string | null {
  for (const [scope, values] of Object.entries(limit.where ?? {})) {
    const value = scopes[scope as FactScope]
    if (value === undefined || !values?.includes(value)) return null
  }
  const parts: string[] = []
  for (const scope of limit.by) {
    const value = scopes[scope]
    if (value === undefined) return null
    parts.push(value)
  }
  return parts.join('/')
}

export function meterId(limit: string, key: string): string {
  return `${limit} of ${key === '' ? 'all' : key}`
}

export function formOf(limit: FactLimit, key: string): Form | null {
  const other = limit.forms?.[key]
  return other === undefined ? limit.form : other
}

/** What a limit counts of some costs: a slot is one, whatever the call costs. */
export function costIn(limit: FactLimit, costs: FactCosts): number {
  return limit.unit === undefined ? 1 : (costs[limit.unit] ?? 0)
}

/** Whether a limit counts runs of this mode. */
export function countsMode(limit: FactLimit, degraded: boolean): boolean {
  return limit.mode === undefined || (limit.mode === 'degraded') === degraded
}

function metersOf({ limits }: Version, scopes: FactScopes): MetRef[] {
  return limits.flatMap((limit) => {
    const key = keyOf(limit, scopes)
    return key === null ? [] : [{ id: meterId(limit.name, key), limit, key, form: formOf(limit, key) }]
  })
}

/** The versions that some process may have used from one time to another: each is replaced only when its successor comes. */
export function versionsDuring(versions: readonly Version[], fromMs: number, toMs: number): Version[] {
  return versions.filter(({ atMs }, index) => atMs <= toMs && (versions[index + 1]?.atMs ?? Number.POSITIVE_INFINITY) > fromMs)
}

/** The meters that count calls of some scopes, under each version that some process may have used from one time to another. */
export type MetersDuring = (scopes: FactScopes, fromMs: number, toMs: number) => readonly (readonly MetRef[])[]

/** Keeps what it finds, since many calls have the same scopes. */
export function limitsOver(versions: readonly Version[]): MetersDuring {
  const found = new Map<Version, Map<string, MetRef[]>>()
  const names = new Map<FactScopes, string>()
  return (scopes, fromMs, toMs) =>
    versionsDuring(versions, fromMs, toMs).map((version) => {
      let name = names.get(scopes)
      if (name === undefined) {
        name = JSON.stringify(scopes)
        names.set(scopes, name)
      }
      const known = found.get(version) ?? new Map<string, MetRef[]>()
      found.set(version, known)
      const meters = known.get(name) ?? metersOf(version, scopes)
      known.set(name, meters)
      return meters
    })
}
