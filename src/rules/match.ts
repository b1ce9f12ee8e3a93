import type { Call } from '../call.js'
import { compileGlob } from '../glob.js'
import { type MatchSpec, parseRange } from './rule.js'

type Predicate = (value: string) => boolean

function anyOf(predicates: readonly Predicate[]): Predicate {
  return (value) => predicates.some((predicate) => predicate(value))
}

const FIELDS = [
  ['agents', 'agent'],
  ['endpoints', 'endpoint'],
  ['models', 'model'],
  ['users', 'user'],
  ['teams', 'team'],
  ['orgs', 'org'],
] as const

/** Whether a rule's `match` covers a call. A call that lacks a matched field is not covered. */
export function compileMatch(match: MatchSpec | undefined): (call: Call) => boolean {
  const checks: ((call: Call) => boolean)[] = []
  for (const [list, field] of FIELDS) {
    const globs = match?.[list]
    if (globs === undefined) continue
    const matches = anyOf(globs.map(compileGlob))
    checks.push((call) => {
      const value = call[field]
      return value !== undefined && matches(value)
    })
  }
  if (match?.ips !== undefined) {
    const inRange = anyOf(match.ips.map((range) => parseRange(range) ?? (() => false)))
    checks.push((call) => call.ip !== undefined && inRange(call.ip))
  }
  return (call) => checks.every((check) => check(call))
}
