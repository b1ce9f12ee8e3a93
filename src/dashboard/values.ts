import { SPENDERS, type Spender } from '../model/spender.js'
import { escapePart } from '../policy/match.js'
import type { RuleSpec } from '../policy/rule.js'
import { type Figures, partsOfLine } from './figures.js'

/** A scope value of a rule that is worth a look. */
export interface KnownValue {
  readonly value: string
  /** How many calls stand in its line. */
  readonly depth: number
}

const isSpender = (scope: string): scope is Spender => (SPENDERS as readonly string[]).includes(scope)

/**
 * The scope values of a rule that are worth a look: those with a line, the deepest first; then agents that have been called, or the top spenders. There is
 * no list of all values, and none is needed: whatever their number, these are a few.
 */
export async function knownValues(figures: Figures, { name, scope }: Pick<RuleSpec, 'name' | 'scope'>): Promise<KnownValue[]> {
  const [looked, known] = await Promise.all([figures.linesNow(), figures.known()])
  const lined = (looked?.lines ?? []).filter(({ rule }) => rule === name).map(({ scopeValue, depth }) => ({ value: scopeValue, depth }))
  const scopes = [scope].flat()
  const [only] = scopes
  const others: string[] = known.lines.map(partsOfLine).flatMap(({ rule, scopeValue }) => (rule === name ? [scopeValue] : []))
  if (scopes.length === 1 && only === 'global') others.unshift('*')
  if (scopes.length === 1 && only === 'agent') others.unshift(...known.agents.map(escapePart))
  if (scopes.length === 1 && only !== undefined && isSpender(only)) others.unshift(...(await figures.spend(only, 'tokens')).map((one) => escapePart(one.name)))
  const rest = [...new Set(others)].filter((value) => !lined.some((one) => one.value === value))
  return [...lined, ...rest.map((value) => ({ value, depth: 0 }))]
}
