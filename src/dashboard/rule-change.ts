import { z } from 'zod'
import { type LimitSpec, limitName, periodMs, unitOf } from '../limits/limit.js'
import { RequestInvalid, RulesInvalid, TollgateError } from '../model/errors.js'
import { durationText, SECOND } from '../model/time.js'
import type { RuleSpec } from '../policy/rule.js'
import { parseRules } from '../policy/rules-file.js'
import { checkInput } from '../validation/faults.js'
import { clockText } from './effects.js'
import { type Figures, isSharedByAll } from './figures.js'
import { lineDiff } from './line-diff.js'
import type { RulePreview } from './rule-preview.js'
import { yamlOf } from './rules-page.js'

const LONGEST = 100_000
const MOST_LINES = 3

const changeSchema = z.strictObject({ name: z.string().max(256), yaml: z.string().max(LONGEST), base: z.string().max(LONGEST).optional() })
export type RuleChange = z.output<typeof changeSchema>

/** @throws RequestInvalid */
export function checkChange(body: unknown): RuleChange {
  return checkInput(changeSchema, body, { whole: 'body' }, RequestInvalid)
}

/** Reads one rule as a rules file has it. @throws RulesInvalid, in the lines of the text that was typed */
export function parseRule({ name, yaml }: Pick<RuleChange, 'name' | 'yaml'>): RuleSpec {
  // As an entry of a list: each line of the text is one line further down, and indented.
  const file = `rules:\n${yaml.replace(/^/gm, '    ').replace(/^ {4}/, '  - ')}\n`
  let rules: RuleSpec[]
  try {
    rules = parseRules(file, 'rule').rules
  } catch (error) {
    if (!(error instanceof RulesInvalid)) throw error
    throw new RulesInvalid(error.faults.map((fault) => fault.replace(/^rule:(\d+): (?:rules\.0\.?)?/, (_, line: string) => `line ${Number(line) - 1}: `)))
  }
  const [rule] = rules
  if (rule === undefined || rules.length !== 1) throw new RulesInvalid(['the text must be one rule'])
  if (name !== '' && rule.name !== name)
    throw new RulesInvalid([`name must stay ${name}: what is counted is stored under it (to rename, add a rule and remove this one)`])
  return rule
}

/** The amount per second of a limit; the slots of a concurrency. */
function paceOf(limit: LimitSpec): number {
  const unit = unitOf(limit)
  const value = limit[unit] ?? 0
  return unit === 'concurrency' ? value : value / ((periodMs(limit.per ?? 'second') ?? SECOND) / SECOND)
}

/** What a change of its limits does to the lines of a rule. */
async function effectsOnLines(figures: Figures, before: RuleSpec, after: RuleSpec): Promise<string[]> {
  const looked = await figures.linesNow()
  const lines = (looked?.lines ?? []).filter(({ rule }) => rule === before.name)
  if (lines.length === 0) return ['No call waits for it now.']
  const { lines: listed } = await figures.source.lines({ names: lines.slice(0, MOST_LINES).map(({ scopeValue }) => `${before.name}/${scopeValue}`) })
  const nowMs = Date.now()
  return listed.flatMap(({ line, lastEtaMs, binding, depth }) => {
    const find = (spec: RuleSpec) => spec.limits.find((limit) => limitName(limit) === binding?.limit)
    const [was, becomes] = [find(before), find(after)]
    const value = line.slice(line.indexOf('/') + 1)
    if (was === undefined) return []
    if (becomes === undefined) return [`The ${depth} calls in the line of ${value} do not wait for ${binding?.limit} any more.`]
    const factor = paceOf(was) / paceOf(becomes)
    if (factor === 1 || lastEtaMs === null) return []
    if (!Number.isFinite(factor)) return [`The ${depth} calls in the line of ${value} never start: ${binding?.limit} is 0.`]
    return [
      `The line of ${value} (${depth} calls) empties about ${clockText(nowMs + lastEtaMs * factor)} instead of ${clockText(nowMs + lastEtaMs)}, ${durationText(Math.abs(lastEtaMs * (factor - 1)))} ${factor > 1 ? 'later' : 'earlier'}.`,
    ]
  })
}

/** Where a limit is above what an agent says it allows, the agent will refuse more. */
async function agentWarnings({ source }: Figures, rule: RuleSpec): Promise<string[]> {
  if (![rule.scope].flat().includes('agent')) return []
  const states = await source.stats.upstream()
  return states.flatMap(({ agent, observed }) =>
    rule.limits.flatMap((limit) => {
      const unit = unitOf(limit)
      const said = unit === 'concurrency' ? undefined : observed[unit]
      if (said === undefined || said.windowMs === null || (rule.match?.agents !== undefined && !rule.match.agents.includes(agent))) return []
      const allows = said.limit / (said.windowMs / SECOND)
      return paceOf(limit) > allows * 1.001
        ? [`${agent} says it allows ${said.limit.toLocaleString('en-US')} ${unit} in ${durationText(said.windowMs)}: it will refuse what is above.`]
        : []
    }),
  )
}

/** What a change would do, before it is made. */
export async function previewChange(figures: Figures, change: RuleChange): Promise<RulePreview> {
  let rule: RuleSpec
  try {
    rule = parseRule(change)
  } catch (error) {
    if (error instanceof RulesInvalid) return { faults: error.faults, diff: [], effects: [], warnings: [] }
    throw error
  }
  const before = figures.source.rules.get(change.name)
  if (change.name === '' && figures.source.rules.get(rule.name) !== null)
    return { faults: [`name ${rule.name} is taken by a rule that is there`], diff: [], effects: [], warnings: [] }
  const diff = lineDiff(before === null ? '' : yamlOf(before), yamlOf(rule)).filter(({ text }) => text !== '')
  const [onLines, warnings] = await Promise.all([before === null ? [] : effectsOnLines(figures, before, rule), agentWarnings(figures, rule)])
  const shared = isSharedByAll(rule) ? 'All tenants share it.' : `Each ${[rule.scope].flat().join(' and ')} has its own.`
  return { faults: [], diff, effects: [...(before === null ? [shared] : []), ...onLines, 'What is counted is kept; no call loses its place.'], warnings }
}

/** Makes the change: a new rule is added, another one gets exactly the fields of the text. @throws RulesInvalid, RULE_UNKNOWN; RequestInvalid where it was changed meanwhile */
export async function applyRuleText({ source }: Figures, change: RuleChange, by: string | undefined): Promise<string> {
  const rule = parseRule(change)
  if (change.name === '') {
    await source.rules.add(rule, { by })
    return rule.name
  }
  const before = source.rules.get(change.name)
  if (before === null) throw new TollgateError('RULE_UNKNOWN', `no rule is called ${JSON.stringify(change.name)}`)
  if (change.base !== undefined && change.base !== yamlOf(before))
    throw new RequestInvalid(`rule: ${change.name} was changed by somebody else meanwhile; look at it again`)
  const gone = Object.fromEntries(Object.keys(before).map((field) => [field, undefined]))
  await source.rules.update(change.name, { ...gone, ...rule }, { by })
  return rule.name
}
