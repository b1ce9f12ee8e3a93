import type { Health } from '../health/health.js'
import { HEALTH_REASONS, type HealthReason } from '../model/health-reason.js'
import { MINUTE, SECOND } from '../model/time.js'
import { escapePart } from '../policy/match.js'
import { subjectOf } from '../policy/override.js'
import { appliesTo } from '../policy/override-index.js'
import type { RuleSpec } from '../policy/rule.js'
import { type Figures, isSharedByAll, lineHistory } from './figures.js'
import { type AgentRow, type Attention, fullness, type NowBody, type RuleGroup, type ValueRow } from './model.js'
import { knownValues } from './values.js'

/** Bounds of the page: rules, values of a rule, values in all, agents, and what needs attention. */
const MOST_RULES = 30
const MOST_VALUES = 4
const MOST_LOOKED_AT = 8
const MOST_AGENTS = 20
const MOST_ATTENTION = 7
const SHARE_OF_MS = 15 * MINUTE
/** A budget above this share is looked at before it is spent. */
const NEARLY_SPENT = 0.8

async function valueRow(figures: Figures, rule: string, value: string, depth: number, limit: string | null): Promise<ValueRow> {
  const [usage, history] = await Promise.all([figures.usage(rule, value), depth > 0 ? figures.line(`${rule}/${value}`) : null])
  const overrides = figures.source.overrides.list().filter((one) => appliesTo(rule, one) && escapePart(subjectOf(one)[1]) === value)
  const note = overrides[0] === undefined ? null : `override by ${overrides[0].by} until ${overrides[0].until.slice(0, 16).replace('T', ' ')}`
  return { value, usage, depth, limit, history, note }
}

const tightest = ({ usage }: ValueRow) => Math.max(0, ...usage.map(fullness))

/** A rule and those of its values that wait, or are fullest. */
async function groupOf(figures: Figures, spec: RuleSpec): Promise<RuleGroup> {
  const [known, looked] = await Promise.all([knownValues(figures, spec), figures.linesNow()])
  const limits = new Map((looked?.lines ?? []).filter(({ rule }) => rule === spec.name).map(({ scopeValue, limit }) => [scopeValue, limit]))
  const rows = await Promise.all(
    known.slice(0, MOST_LOOKED_AT).map(({ value, depth }) => valueRow(figures, spec.name, value, depth, limits.get(value) ?? null)),
  )
  const sorted = rows.sort((one, other) => other.depth - one.depth || tightest(other) - tightest(one))
  const shown = sorted.filter(({ depth, usage }) => depth > 0 || usage.some(({ used, claimed }) => used + claimed > 0)).slice(0, MOST_VALUES)
  const lined = known.filter(({ depth }) => depth > 0).length
  const { name, scope, strategy } = spec
  return {
    spec: { name, scope, strategy },
    shared: isSharedByAll(spec),
    values: shown,
    moreLines: Math.max(0, lined - shown.filter(({ depth }) => depth > 0).length),
  }
}

/** Agents that were called, and what they told: at most one row for each agent, endpoint and model. */
async function agentRows(figures: Figures): Promise<AgentRow[]> {
  const [states, known] = await Promise.all([figures.remember('upstream', SECOND, () => figures.source.stats.upstream()), figures.known()])
  const silent = known.agents.filter((agent) => !states.some((state) => state.agent === agent)).map((name) => ({ name, state: null }))
  const rows = [...states.map((state) => ({ name: state.agent, state })), ...silent].slice(0, MOST_AGENTS)
  return Promise.all(
    rows.map(async ({ name, state }) => {
      const hour = await figures.hour('agent', name).catch(() => [])
      return { name, state, startingPerSecond: lineHistory(hour).startingPerSecond, limited429: hour.map((point) => point.limited429) }
    }),
  )
}

const LINKS: Partial<Record<HealthReason, Attention['link']>> = {
  PAUSED: { href: '/rules#pauses', text: 'Pauses' },
  BUDGET: { href: '/budgets', text: 'Budgets' },
  UPSTREAM: { href: '/#agents', text: 'Agents' },
}

function alsoHolds({ also }: Health): Attention[] {
  return also.map(({ reason, sentence, sinceMs }) => ({
    kind: HEALTH_REASONS[reason].state === 'flowing' ? 'note' : 'warn',
    text: sentence,
    detail: `${sinceMs === null ? '' : `since ${new Date(sinceMs).toISOString().slice(11, 19)}: `}${HEALTH_REASONS[reason].todo}`,
    link: LINKS[reason] ?? { href: '/lines', text: 'Lines' },
  }))
}

/** What the verdict does not say, and what should be known before it becomes one. */
async function attentionOf(figures: Figures, health: Health): Promise<Attention[]> {
  const { source } = figures
  const found = alsoHolds(health)
  for (const { name, budget } of await figures.spend('org', 'usd'))
    if (budget !== null && (budget.used / budget.amount >= NEARLY_SPENT || budget.runsOutMs !== null))
      found.push({
        kind: 'warn',
        text: `${name} has spent ${Math.min(99, Math.floor((100 * budget.used) / budget.amount))} % of ${budget.limit}`,
        detail: budget.runsOutMs === null ? 'lasts, at its pace' : `runs out ${new Date(budget.runsOutMs).toISOString().slice(0, 16).replace('T', ' ')}`,
        link: { href: `/budgets?open=${encodeURIComponent(name)}`, text: 'Budget' },
      })
  const { unchecked, away } = source.stats.outage()
  if (unchecked > 0 || away)
    found.push({
      kind: 'warn',
      text: away ? 'Redis is away for this server' : `${unchecked} calls were let in unchecked`,
      detail: 'by this server, while Redis was away',
      link: { href: '/rules#audit', text: 'Audit' },
    })
  for (const pause of source.paused()) {
    const { by, since, reason } = pause
    found.push({
      kind: 'note',
      text: `${subjectOf(pause).join(' ')} is paused`,
      detail: `since ${since.slice(0, 16).replace('T', ' ')}, by ${by}${reason === undefined ? '' : `: “${reason}”`}`,
      link: { href: '/rules#pauses', text: 'Pauses' },
    })
  }
  return found.slice(0, MOST_ATTENTION)
}

/** Is it flowing, how bad is it, by what is it limited, what else: the page that is opened first. */
export async function nowBody(figures: Figures, health: Health): Promise<NowBody> {
  const { source } = figures
  const [hour, limitedBy, attention, groups, agents] = await Promise.all([
    figures.hour('namespace'),
    figures.remember('limited by', 2 * SECOND, () => source.history.limitedBy({ overMs: SHARE_OF_MS })),
    attentionOf(figures, health),
    Promise.all(
      source.rules
        .list()
        .slice(0, MOST_RULES)
        .map((spec) => groupOf(figures, spec)),
    ),
    agentRows(figures),
  ])
  return { page: 'now', hour, limitedBy, attention, groups, agents, unchecked: source.stats.outage().unchecked }
}
