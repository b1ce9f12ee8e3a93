import { isIP } from 'node:net'
import { parseRange } from '../validation/patterns.js'
import type { RuleSet } from './compile.js'
import { type Override, subjectOf } from './override.js'
import { pausedBy } from './pause.js'

type Subject = readonly [kind: string, value: string]

/** Whom the overrides and pauses are for that one of two policies has, and the other has not. */
function subjects(before: RuleSet, after: RuleSet): Subject[] {
  const apart = <One>(ones: readonly One[], others: readonly One[], same: (one: One) => string): One[] => {
    const known = new Set(others.map(same))
    return ones.filter((one) => !known.has(same(one)))
  }
  const overrides = (one: RuleSet, other: RuleSet): Override[] => apart(one.overrides, other.overrides, ({ id }) => id)
  const pauses = (one: RuleSet, other: RuleSet) => apart(one.policy.pauses, other.policy.pauses, (pause) => pausedBy(pause).join())
  return [...[...overrides(after, before), ...overrides(before, after)].map(subjectOf), ...[...pauses(after, before), ...pauses(before, after)].map(pausedBy)]
}

function plain(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/**
 * Which lines are likely to move by what has changed between two policies: those to look at
 * first where there are many. It is a guess by their names; all are looked at in the end.
 */
export function touchedLines(before: RuleSet, after: RuleSet): (rule: string, value: string) => boolean {
  const changed = subjects(before, after)
  const rules = new Set(changed.flatMap(([kind, value]) => (kind === 'rule' ? [value] : [])))
  const values = new Set(changed.flatMap(([kind, value]) => (kind === 'rule' ? [] : [value])))
  const ranges = changed.flatMap(([kind, value]) => (kind === 'ip' ? [parseRange(value)] : []))
  return (rule, value) =>
    rules.has(rule) ||
    value
      .split('|')
      .map(plain)
      .some((part) => values.has(part) || rules.has(part) || (isIP(part) !== 0 && ranges.some((inRange) => inRange?.(part) === true)))
}
