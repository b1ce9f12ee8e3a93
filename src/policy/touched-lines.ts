import { isWithin, type Network, parseNetwork } from '../validation/address.js'
import type { RuleSet } from './compile.js'
import { unescapePart } from './match.js'
import { subjectOf } from './override.js'

/** The subjects of overrides and pauses: by the id of the override, or the subject of the pause itself. */
function subjectsOf({ overrides, policy }: RuleSet): Map<string, readonly [kind: string, value: string]> {
  const ofPauses = policy.pauses.map((pause) => [subjectOf(pause).join(), subjectOf(pause)] as const)
  return new Map([...overrides.map((override) => [override.id, subjectOf(override)] as const), ...ofPauses])
}

/**
 * Guesses by the names of lines which of them a change of the policy concerns. These lines are
 * dispatched first where there are many; in the end all are, so a wrong guess only delays a call.
 */
export function touchedLines(before: RuleSet, after: RuleSet): (rule: string, value: string) => boolean {
  const [was, is] = [subjectsOf(before), subjectsOf(after)]
  const changed = [...was, ...is].flatMap(([key, subject]) => (was.has(key) && is.has(key) ? [] : [subject]))
  const rules = new Set(changed.flatMap(([kind, value]) => (kind === 'rule' ? [value] : [])))
  const values = new Set(changed.flatMap(([kind, value]) => (kind === 'rule' ? [] : [value])))
  const ranges = changed.flatMap(([kind, value]) => (kind === 'ip' ? (parseNetwork(value) ?? []) : []))
  const isInRange = (network: Network | null) => network !== null && ranges.some((range) => isWithin(network, range) || isWithin(range, network))
  return (rule, value) =>
    rules.has(rule) ||
    value
      .split('|')
      .map(unescapePart)
      .some((part) => values.has(part) || rules.has(part) || (ranges.length > 0 && isInRange(parseNetwork(part))))
}
