import type { RuleKind } from '../model/decision.js'
import type { WaitReason } from '../model/wait-reason.js'
import { unescapePart } from '../policy/match.js'
import type { RuleSpec } from '../policy/rule.js'
import type { LineNow, LinesNow } from './answers.js'

/** A line as the dispatcher saw it, with what the verdict needs of its first call. */
export interface LineSeen extends LineNow {
  readonly kind: RuleKind | null
  readonly waitsFor: WaitReason | null
  /** Since when its first calls wait for that limit: the line may have stood before for another one. Undefined where a version before looked. */
  readonly limitSinceMs?: number
  /** Of the first call. */
  readonly head: string
  readonly queue: string
  readonly agent: string
  readonly etaMs: number | null
  /** What the first call needs of the limit that binds it, and what that can hold and has left, in its unit; null where no limit binds it. */
  readonly binds: {
    readonly unit: string
    readonly needs: number
    readonly capacity: number
    readonly remaining: number
    readonly windowMs: number | null
  } | null
}

/** The last look of the dispatcher, as it is kept in Redis. */
export interface Seen extends LinesNow {
  readonly lines: readonly LineSeen[]
  /** By `limitKey`: since when calls wait for a limit without a break, and how many lines wait for it now with how many calls. */
  readonly limits: Readonly<Record<string, { readonly sinceMs: number; readonly calls: number }>>
}

export function limitKey(rule: string, limit: string): string {
  return `${rule}/${limit}`
}

/** @param text null where none has looked */
export function readSeen(text: string | null): Seen | null {
  if (text === null) return null
  try {
    const seen = JSON.parse(text) as Seen
    return typeof seen.atMs === 'number' && Array.isArray(seen.lines) && typeof seen.limits === 'object' ? seen : null
  } catch {
    return null
  }
}

const SHARED_SCOPES: readonly string[] = ['global', 'agent', 'endpoint', 'model']

/** Whether all tenants share the limits of a rule: it counts by global, agent, endpoint or model alone. So do blocks of agents and lines of queues. */
export function sharedByAll(specs: readonly RuleSpec[], rule: string): boolean {
  if (rule.startsWith('~')) return !rule.startsWith('~pause')
  const spec = specs.find(({ name }) => name === rule.replace(/~degraded$/, ''))
  return spec === undefined || [spec.scope].flat().every((one) => SHARED_SCOPES.includes(one))
}

const TENANT_SCOPES: readonly string[] = ['org', 'team', 'user', 'ip']

/** The tenant whose calls a line has, where the rule counts by tenant alone; undefined where a line may have calls of several. */
export function tenantOf(specs: readonly RuleSpec[], rule: string, value: string): string | undefined {
  const spec = specs.find(({ name }) => name === rule)
  const scopes = spec === undefined ? [] : [spec.scope].flat()
  if (!scopes.some((one) => TENANT_SCOPES.includes(one))) return undefined
  const parts = value.split('|')
  const place = scopes.findIndex((one) => TENANT_SCOPES.includes(one))
  return parts[place] === undefined ? undefined : unescapePart(parts[place] as string)
}
