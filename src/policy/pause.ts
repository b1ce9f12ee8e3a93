import type { Call } from '../model/call.js'
import { BARE_RULE, type CompiledRule } from './compiled-rule.js'
import { escapePart } from './match.js'
import { subjectOf } from './override.js'

export const PAUSABLE = ['agent', 'user', 'team', 'org', 'rule'] as const
type Pausable = (typeof PAUSABLE)[number]

/** A pause: the calls of a subject do not start until they are resumed. */
export interface Pause {
  /** The subject, by exactly one field: the calls to an agent, of a user, team or org, or the calls that a rule covers. */
  readonly for: { readonly [Kind in Pausable]?: string | undefined }
  /** The actor that paused them. */
  readonly by: string
  readonly reason?: string | undefined
  /** The begin of the pause: ISO 8601, by Redis' clock. */
  readonly since: string
}

/** Above the priority of any rule of a policy: a pause decides before every other rule. */
const PRIORITY = 2_000_000
/**
 * The assumed wait of a paused call, in ms. Longer than a worker holds a call, so that the call goes to
 * a line; short, so that a call that joined the line under an older policy is checked again soon.
 */
export const PAUSE_WAIT_MS = 5000

const ruleOf = (kind: string) => `~pause.${kind}`

/** Whether a line is that of the calls that wait for the end of a pause. */
export function isLineOf(pause: Pick<Pause, 'for'>, { rule, scopeValue }: { readonly rule: string; readonly scopeValue: string }): boolean {
  const [kind, value] = subjectOf(pause)
  return rule === ruleOf(kind) && scopeValue === (kind === 'rule' ? value : escapePart(value))
}

function scopeOf(kind: Pausable, values: ReadonlySet<string>, rules: readonly CompiledRule[]): (call: Call) => string | null {
  if (kind === 'rule') {
    const paused = rules.filter(({ name }) => values.has(name))
    return (call) => paused.find((rule) => rule.scopeValue(call) !== null)?.name ?? null
  }
  return (call) => {
    const value = call[kind]
    return value !== undefined && values.has(value) ? escapePart(value) : null
  }
}

/**
 * Compiles pauses to rules: one rule per kind of subject, with a meter and a line per paused value. So paused calls stand in a line of their own, and
 * when the pause ends they go on like the calls of any rule that was removed.
 */
export function pauseRules(pauses: readonly Pause[], rules: readonly CompiledRule[]): CompiledRule[] {
  return PAUSABLE.flatMap((kind) => {
    const values = new Set(pauses.map(subjectOf).flatMap(([one, value]) => (one === kind ? [value] : [])))
    if (values.size === 0) return []
    return [{ ...BARE_RULE, kind: 'pause' as const, name: ruleOf(kind), priority: PRIORITY, scopeValue: scopeOf(kind, values, rules) }]
  })
}
