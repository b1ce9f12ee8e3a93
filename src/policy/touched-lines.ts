import { isIP } from 'node:net'
import { parseRange } from '../validation/patterns.js'
import type { RuleSet } from './compile.js'
import { type Override, subjectOf } from './override.js'
import { pausedBy } from './pause.js'

type Subject = readonly [kind: string, value: string]

/** The subjects of the overrides and pauses that exactly one of two policies has. */
function changedSubjects(before: RuleSet, after: RuleSet): Subject[] {
  const without = <One>(ones: readonly One[], others: readonly One[], idOf: (one: One) => string): One[] => {
    const known = new Set(others.map(idOf))
    return ones.filter((one) => !known.has(idOf(one)))
  }
  const overrides = (one: RuleSet, other: RuleSet): Override[] => without(one.overrides, other.overrides, ({ id }) => id)
  const pauses = (one: RuleSet, other: RuleSet) => without(one.policy.pauses, other.policy.pauses, (pause) => pausedBy(pause).join())
  return [...[...overrides(after, before), ...overrides(before, after)].map(subjectOf), ...[...pauses(after, before), ...pauses(before, after)].map(pausedBy)]
}

function unescapePart(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/**
 * Guesses by the names of lines which of them a change of the policy concerns. These lines are
 * dispatched first where there are many; in the end all are, so a wrong guess only delays a call.
 */
export function touchedLines(before: RuleSet, after: RuleSet): (rule: string, value: string) => boolean {
  const changed = changedSubjects(before, after)
  const rules = new Set(changed.flatMap(([kind, value]) => (kind === 'rule' ? [value] : [])))
  const values = new Set(changed.flatMap(([kind, value]) => (kind === 'rule' ? [] : [value])))
  const ranges = changed.flatMap(([kind, value]) => (kind === 'ip' ? [parseRange(value)] : []))
  return (rule, value) =>
    rules.has(rule) ||
    value
      .split('|')
      .map(unescapePart)
      .some((part) => values.has(part) || rules.has(part) || (isIP(part) !== 0 && ranges.some((inRange) => inRange?.(part) === true)))
}
