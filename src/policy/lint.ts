import { anyOwn, compileLimit } from '../limits/compiled-limit.js'
import type { LimitSpec } from '../limits/limit.js'
import type { Call } from '../model/call.js'
import { DEFAULTS } from '../model/defaults.js'
import { compilePrices } from '../pricing/prices.js'
import { normalEndpoint } from '../validation/endpoint.js'
import { show } from '../validation/faults.js'
import { compileGlob } from '../validation/patterns.js'
import { compileMatch, compileRequired, scopeValueOf } from './match.js'
import type { MatchSpec, RuleSpec } from './rule.js'
import type { RulesFile } from './rules-file.js'

/** What a call usually costs at least, in tokens: an answer without a bound, and a page to read. */
const USUAL_TOKENS: Readonly<Record<string, number>> = {
  tokens: DEFAULTS.outputTokens + 500,
  inputTokens: 500,
  uncachedInputTokens: 500,
  outputTokens: DEFAULTS.outputTokens,
}

function ofLimits(file: RulesFile, { match }: RuleSpec, limits: readonly LimitSpec[]): string[] {
  return limits.flatMap((spec) => {
    const { name, unit, capacity } = compileLimit(spec, anyOwn)
    const usual = USUAL_TOKENS[unit]
    if (usual !== undefined && capacity > 0 && capacity < usual)
      return [`limit ${name} holds ${capacity} ${unit}, less than one usual call costs (about ${usual}): such a call is refused with COST_TOO_BIG`]
    if (unit !== 'usd') return []
    const { priceOf } = compilePrices(file.prices)
    const unpriced = priceOf(undefined) === undefined ? (match?.models?.filter((model) => priceOf(model) === undefined) ?? ['*']) : []
    if (unpriced.length === 0) return []
    return [`limit ${name} counts usd, and there is no price for ${unpriced.join(', ')}: calls that do not say cost.usd are refused`]
  })
}

/** The entries of a list of a match that no call can fit. */
function deadEntries(file: RulesFile, match: MatchSpec): string[] {
  const known = Object.keys(file.agents)
  const agents = known.length === 0 ? [] : (match.agents ?? []).filter((glob) => !known.some(compileGlob(glob)))
  // As an endpoint that fits it would be written; `?` stands for one character.
  const endpoints = (match.endpoints ?? []).filter((glob) => normalEndpoint(glob.replace(/[*?]/g, 'x')) === null)
  return [
    ...agents.map((agent) => `match.agents names ${JSON.stringify(agent)}, which agents does not know`),
    ...endpoints.map((endpoint) => `match.endpoints names ${JSON.stringify(endpoint)}, which no endpoint can be: they are paths, without dot segments`),
  ]
}

function neverMatches(file: RulesFile, { match = {}, scope }: RuleSpec, dead: readonly string[]): string[] {
  const allDead = (['agents', 'endpoints'] as const).some((list) => {
    const entries = match[list]
    return entries !== undefined && dead.filter((one) => one.startsWith(`match.${list} `)).length === entries.length
  })
  const { exempt } = file
  const lifted = [scope].flat().find((one) => (exempt[`${one}s` as keyof typeof exempt] ?? []).some((entry) => /^\*+$/.test(entry) || entry === '0.0.0.0/0'))
  return [
    ...(allDead ? ['it covers no call: nothing fits its match'] : []),
    ...(lifted === undefined ? [] : [`it limits no call: exempt has every ${lifted}, and the rule counts by ${lifted}`]),
  ]
}

/** What is valid in a rules file, and surely not meant. */
export function warningsOf(file: RulesFile): string[] {
  return file.rules.flatMap((rule) => {
    if (rule.enabled === false) return []
    const dead = deadEntries(file, rule.match ?? {})
    const degrades = rule.strategy === 'graceful' && Object.keys(file.degradeTo).length === 0
    return [
      ...dead,
      ...neverMatches(file, rule, dead),
      ...ofLimits(file, rule, [...rule.limits, ...(rule.degraded ?? [])]),
      ...(degrades ? ['it is graceful, and no agent has a degradeTo: without a fallback in the worker a degraded call is the same call'] : []),
    ].map((message) => `rule ${rule.name}: ${message}`)
  })
}

/** Whether a rule covers a call, and if not why. */
export interface Coverage {
  readonly rule: string
  readonly covers: boolean
  /** The value that the rule counts the call by; null where it does not cover it. */
  readonly value: string | null
  readonly why: string
}

function whyNotMatched({ keys = {}, ...lists }: MatchSpec, call: Call): string {
  const single: [name: string, entries: readonly string[], match: MatchSpec][] = [
    ...Object.entries(lists).map(([list, entries]): [string, string[], MatchSpec] => [list, entries ?? [], { [list]: entries }]),
    ...Object.entries(keys).map(([key, entries]): [string, string[], MatchSpec] => [`keys.${key}`, entries, { keys: { [key]: entries } }]),
  ]
  const failed = single.filter(([, , match]) => !compileMatch(match)(call))
  return `the call does not fit ${failed.map(([name, entries]) => `match.${name} ${show(entries)}`).join(' and ')}`
}

/** What each rule says of a call. */
export function coverageOf(rules: readonly RuleSpec[], call: Call): Coverage[] {
  return rules.map((spec) => {
    const { name: rule, match, scope, enabled, ipv6Prefix = DEFAULTS.ipv6Prefix } = spec
    const not = (why: string): Coverage => ({ rule, covers: false, value: null, why })
    if (enabled === false) return not('the rule is not enabled')
    if (!compileMatch(match)(call)) return not(whyNotMatched(match ?? {}, call))
    const missing = compileRequired(spec)?.(call)
    if (missing !== undefined) return not(`the call is refused: the rule requires ${missing}`)
    const scopes = [scope].flat()
    const lacking = scopes.filter((one) => scopeValueOf([one])(call) === null)
    if (lacking.length > 0) return not(`the call has no ${lacking.join(' and no ')}, which the rule counts by`)
    return { rule, covers: true, value: scopeValueOf(scopes, { ipv6Prefix })(call), why: `it counts the call by ${scopes.join(' and ')}` }
  })
}
