import { readFile } from 'node:fs/promises'
import { type Document, isNode, LineCounter, parseDocument, visit } from 'yaml'
import { RulesInvalid } from '../model/errors.js'
import type { PriceTable } from '../pricing/prices.js'
import { faultsOf, safeParse, show, valueAt } from '../validation/faults.js'
import type { AlertPlan } from './alert.js'
import type { Exempt } from './override.js'
import { type AgentSpec, defaultEndpoints, type RuleSpec, ruleSetSchema } from './rule.js'
import { withRuleDefaults } from './rule-defaults.js'

export interface RulesFile {
  rules: RuleSpec[]
  /** How to reach each agent, by its name. */
  agents: Record<string, AgentSpec>
  /** The prices of models, by name or glob; empty where the file has none. */
  prices: PriceTable
  /** The permanent lists of subjects without a limit; empty where the file has none. */
  exempt: Exempt
  /** The model that calls in degraded mode run with, by agent. */
  degradeTo: Record<string, string>
  /** The endpoint of calls that name none, by agent. */
  endpoints: Record<string, string>
  /** The alerts, and where they are sent. */
  alerts: AlertPlan
}

/** The place of a fault, as a prefix of its message: "tollgate.yaml:7: ", or "" for rules that are given as objects. */
type Locate = (path: readonly PropertyKey[]) => string

/** Quotes a value of a rules file, but no key or password: messages end up in logs. */
function showWithoutSecrets(value: unknown, path: readonly PropertyKey[]): string {
  return path[0] === 'agents' && path.length > 2 && typeof value === 'string' && (/key|token|secret|auth/i.test(path.slice(2).join('.')) || value.includes('@'))
    ? `${value.length} characters, not shown`
    : show(value)
}

/** zod's records drop this name silently: a place where it stands, and what it would name there. */
function hiddenNames(input: unknown): [path: readonly PropertyKey[], thing: string][] {
  const rules = valueAt(input, ['rules'])
  const ofMatches = Array.isArray(rules) ? rules.map((_, index): [PropertyKey[], string] => [['rules', index, 'match', 'keys'], 'a key']) : []
  const sections: [PropertyKey[], string][] = [[['agents'], 'an agent'], [['prices'], 'a model'], [['webhooks'], 'a webhook'], ...ofMatches]
  return sections.map(([section, thing]) => [[...section, '__proto__'], thing])
}

function checkFile(given: unknown, locate: Locate): RulesFile {
  const input = withRuleDefaults(given)
  for (const [path, thing] of hiddenNames(input)) {
    const hidden = valueAt(input, path)
    if (hidden !== undefined)
      throw new RulesInvalid([`${locate(path)}${path.map(String).join('.')} is not a name that ${thing} can have (got ${show(hidden)})`])
  }
  const parsed = safeParse(ruleSetSchema, input)
  if (parsed.success) {
    const { rules, agents = {}, prices = {}, exempt = {}, alerts = [], webhooks = {} } = parsed.data
    const degradeTo = Object.fromEntries(Object.entries(agents).flatMap(([agent, { degradeTo }]) => (degradeTo === undefined ? [] : [[agent, degradeTo]])))
    return { rules, agents, prices, exempt, degradeTo, endpoints: defaultEndpoints(agents), alerts: { list: alerts, webhooks } }
  }
  const faults = faultsOf(parsed.error, input, { whole: 'rules', name: (path) => path.map(String).join('.'), show: showWithoutSecrets })
  throw new RulesInvalid(faults.map(({ path, field, message, got }) => `${locate(path)}${field} ${message} (got ${got})`))
}

/** Checks rules that are given as objects, with what is declared beside them. @throws RulesInvalid naming field, value and bound */
export function checkRules(
  rules: readonly RuleSpec[],
  prices: Readonly<PriceTable> = {},
  exempt: Exempt = {},
  degradeTo: Readonly<Record<string, string>> = {},
  endpoints: Readonly<Record<string, string>> = {},
): Omit<RulesFile, 'agents'> {
  return { ...checkFile({ rules, prices, exempt }, () => ''), degradeTo: { ...degradeTo }, endpoints: { ...endpoints } }
}

/** The line of a YAML alias error: of the first alias without an anchor, else (too many aliases) of the first alias. */
function aliasLine(document: Document, lines: LineCounter): number {
  const offsets: number[] = []
  let dangling: number | undefined
  visit(document, {
    Alias: (_, alias) => {
      const offset = alias.range?.[0] ?? 0
      offsets.push(offset)
      if (alias.resolve(document) === undefined) dangling ??= offset
    },
  })
  return lines.linePos(dangling ?? offsets[0] ?? 0).line
}

/** Parses and checks the text of a rules file (YAML). @param file its path, for messages. @throws RulesInvalid naming file, line, field, value and bound */
export function parseRules(text: string, file: string): RulesFile {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines })
  const fault = document.errors[0]
  if (fault !== undefined) {
    throw new RulesInvalid([`${file}:${lines.linePos(fault.pos[0]).line}: ${fault.message.split(/ at line \d+, column \d+:|\n/)[0]}`])
  }
  const locate: Locate = (path) => {
    for (let depth = path.length; depth >= 0; depth--) {
      const node = document.getIn(path.slice(0, depth), true)
      if (isNode(node) && node.range) return `${file}:${lines.linePos(node.range[0]).line}: `
    }
    return `${file}:1: `
  }
  let input: unknown
  try {
    input = document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    if (!(error instanceof ReferenceError)) throw error
    throw new RulesInvalid([`${file}:${aliasLine(document, lines)}: ${error.message}`])
  }
  return checkFile(input, locate)
}

/** Reads, parses and checks a rules file. @throws RulesInvalid naming file, line, field, value and bound */
export async function readRules(file: string): Promise<RulesFile> {
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new RulesInvalid([`${file}: cannot be read (${cause.code ?? String(cause)})`])
  })
  return parseRules(text, file)
}
