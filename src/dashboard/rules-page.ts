import { stringify } from 'yaml'
import { SECOND } from '../model/time.js'
import { isLineOf, type Pause } from '../policy/pause.js'
import type { RuleSpec } from '../policy/rule.js'
import type { Figures } from './figures.js'
import { fullness, type RuleRow, type RulesBody } from './model.js'
import type { PageQuery } from './pages.js'
import { knownValues } from './values.js'

const MOST_AUDIT = 500
/** So many values of a rule are looked at for its tightest. */
const VALUES = 3

/** A rule as a rules file has it. */
export function yamlOf(spec: RuleSpec): string {
  return stringify(spec, { flowCollectionPadding: true, collectionStyle: 'any', lineWidth: 100 }).replace(
    /^( *)- (.+)\n((?:\1 {2}[^-\s].*\n)+)/gm,
    (_, indent: string, first: string, more: string) => {
      const fields = [
        first,
        ...more
          .trimEnd()
          .split('\n')
          .map((line) => line.trim()),
      ]
      return `${indent}- { ${fields.join(', ')} }\n`
    },
  )
}

async function rowOf(figures: Figures, spec: RuleSpec): Promise<RuleRow> {
  const values = (await knownValues(figures, spec)).slice(0, VALUES)
  const usages = (await Promise.all(values.map(({ value }) => figures.usage(spec.name, value)))).flat()
  const [tightest] = usages.sort((one, other) => fullness(other) - fullness(one))
  const waiting = values.filter(({ value }) => value === tightest?.scopeValue).reduce((sum, { depth }) => sum + depth, 0)
  return { spec, yaml: yamlOf(spec), tightest: tightest ?? null, waiting }
}

/** The rules in force and what administrators have changed for a time. */
export async function rulesBody(figures: Figures, query: PageQuery<'rules'>): Promise<RulesBody> {
  const tollgate = figures.source
  const { edit, by, audit, ...filled } = query as PageQuery<'rules'> & Record<string, string | number | undefined>
  const limit = Math.min(MOST_AUDIT, Math.max(1, audit))
  const specs = tollgate.rules.list()
  const [rules, entries, known, paused] = await Promise.all([
    Promise.all(specs.map((spec) => rowOf(figures, spec))),
    figures.remember(`audit ${by} ${limit}`, 2 * SECOND, () => tollgate.overrides.audit({ limit, ...(by === '' ? {} : { by }) })),
    figures.known(),
    pausedCalls(figures),
  ])
  return {
    page: 'rules',
    rules,
    edit: edit ?? null,
    filled: Object.fromEntries(Object.entries(filled).filter((entry): entry is [string, string] => typeof entry[1] === 'string')),
    overrides: tollgate.overrides.list(),
    pauses: tollgate.paused().map((one) => ({ ...one, waiting: paused(one) })),
    agents: known.agents.slice(0, 50),
    audit: entries,
    auditBy: by,
    auditLimit: limit,
  }
}

/** How many calls wait for the end of a pause. */
async function pausedCalls(figures: Figures): Promise<(pause: Pause) => number> {
  const looked = await figures.linesNow()
  return (pause) => (looked?.lines ?? []).filter((line) => isLineOf(pause, line)).reduce((sum, { depth }) => sum + depth, 0)
}
