import type { Call } from '../call.js'
import { type MatchSpec, parseRange } from './rule.js'

type Predicate = (value: string) => boolean

/** A glob as a check: * stands for any characters, ? for one. */
function compileGlob(glob: string): Predicate {
  if (!/[*?]/.test(glob)) return (value) => value === glob
  const pattern = [...glob]
  return (value) => matchesGlob(pattern, [...value])
}

/** Goes back to the last star only, so no pattern takes longer than its length times the value's. */
function matchesGlob(pattern: readonly string[], value: readonly string[]): boolean {
  let at = 0
  let star = -1
  let resumeAt = 0
  for (let i = 0; i < value.length; ) {
    if (pattern[at] === '*') {
      star = at++
      resumeAt = i
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === value[i])) {
      at++
      i++
    } else if (star >= 0) {
      at = star + 1
      i = ++resumeAt
    } else return false
  }
  while (pattern[at] === '*') at++
  return at === pattern.length
}

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
