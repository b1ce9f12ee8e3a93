import { randomBytes } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { TIME_ACTOR } from '../model/defaults.js'
import { EMPTY_POLICY, type Policy, rulesOf } from '../policy/policy.js'
import type { AuditNote } from './audit.js'

/** How many revisions back a policy knows its descent: a process that was away for more changes than these takes what it finds. */
const REVISIONS_KEPT = 200

/** Where a policy stands among those of its namespace: each change makes a new revision, which names those that it came from, the last one first. */
export interface Lineage {
  /** '' where none is stored. */
  readonly revision: string
  readonly past: readonly string[]
}

interface Descended extends Lineage {
  readonly policy: Policy
}

/** The lineage of what is changed next. @param parents of which it is made, the most important one first */
export function nextLineage(...parents: readonly Lineage[]): Lineage {
  const past = parents.flatMap(({ revision, past }) => (revision === '' ? past : [revision, ...past]))
  return { revision: randomBytes(8).toString('base64url'), past: [...new Set(past)].slice(0, REVISIONS_KEPT) }
}

/**
 * How the stored policy stands to the one that this process knows.
 * - goes on: it is the known one, or came from it.
 * - lost: there is none, or an older one that the known one came from: Redis came back empty, or with an older state.
 * - apart: it came from none, or an older one, that was changed after the known one was lost.
 */
export function compareLineage(stored: Lineage, known: Descended): 'goes on' | 'lost' | 'apart' {
  if (known.revision === '' || stored.revision === known.revision || stored.past.includes(known.revision)) return 'goes on'
  if (stored.revision === '') return isDeepStrictEqual(known.policy, EMPTY_POLICY) ? 'goes on' : 'lost'
  if (known.past.includes(stored.revision)) return 'lost'
  // So many changes have been missed that it is not known any more where it came from.
  return stored.past.length >= REVISIONS_KEPT && !isRelated(stored, known) ? 'goes on' : 'apart'
}

function isRelated(stored: Lineage, known: Lineage): boolean {
  return stored.past.some((revision) => known.past.includes(revision))
}

/** Both lists; of two entries of one name that of the first. */
function joined<T>(first: readonly T[], second: readonly T[], nameOf: (one: T) => string): T[] {
  const names = new Set(first.map(nameOf))
  return [...first, ...second.filter((one) => !names.has(nameOf(one)))]
}

/**
 * The known policy, together with what was changed after it was lost. Where that was an older state that went on, the known policy is the newer one,
 * and wins. Where it began anew, its rules were declared after the loss: they win, and what was set at run time comes back beside them.
 */
export function mergePolicies(stored: Descended, known: Descended): Policy {
  const olderWentOn = isRelated(stored, known) || known.past.includes(stored.revision)
  const [first, second] = olderWentOn ? [known.policy, stored.policy] : [stored.policy, known.policy]
  const { declared, prices, exempt, degradeTo, endpoints, alerts } = first.declared.length > 0 ? first : second
  const names = new Set(declared.map(({ name }) => name))
  return {
    ...{ declared, prices, exempt, degradeTo, endpoints, alerts },
    added: joined(first.added, second.added, ({ name }) => name).filter(({ name }) => !names.has(name)),
    overrides: joined(first.overrides, second.overrides, ({ id }) => id),
    pauses: joined(first.pauses, second.pauses, (pause) => JSON.stringify(pause.for)),
    settings: { ...second.settings, ...first.settings },
    algorithms: { ...second.algorithms, ...first.algorithms },
  }
}

/** What the audit says of a policy that was declared anew. */
export function restoredNote(stored: Policy, restored: Policy): AuditNote {
  const changed = (['rules', 'overrides', 'pauses', 'settings'] as const).filter((part) => !isDeepStrictEqual(partOf(stored, part), partOf(restored, part)))
  const of = (policy: Policy) => Object.fromEntries(changed.map((part) => [part, partOf(policy, part)]))
  return { by: TIME_ACTOR, what: 'rules.restored', subject: 'rules', before: of(stored), after: of(restored) }
}

function partOf(policy: Policy, part: 'rules' | 'overrides' | 'pauses' | 'settings'): unknown {
  return part === 'rules' ? rulesOf(policy) : policy[part]
}
