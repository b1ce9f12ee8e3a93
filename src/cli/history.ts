import type { Command } from 'commander'
import type { CallHistory, HistoryPoint, LimitedBy } from '../history/answers.js'
import { durationText } from '../model/time.js'
import { type Common, common, withTollgate } from './common.js'
import { rowsUnder, utcText } from './table.js'

const durationOrNone = (ms: number | null) => (ms === null ? '–' : durationText(ms))

function lifeTable({ events, leftOut, limits, estimate, actual }: CallHistory): string {
  const rows = events.map(({ atMs, what, rule, scopeValue, limit, position, etaMs, attempt, cost, why }, n) => [
    new Date(atMs).toISOString().slice(11, 23),
    n === 0 ? '' : durationText(atMs - (events[n - 1]?.atMs ?? atMs)),
    what === 'waiting' && position === undefined ? 'moved' : what,
    [
      rule === undefined ? '' : `${rule}/${scopeValue ?? ''}`,
      limit ?? '',
      position === undefined ? '' : `place ${position + 1}`,
      etaMs === undefined || etaMs === null ? '' : `told ${durationText(etaMs)}`,
      attempt === undefined ? '' : `attempt ${attempt}`,
      cost === undefined ? '' : JSON.stringify(cost),
      why ?? '',
    ]
      .filter((one) => one !== '')
      .join(', '),
  ])
  const atStart = limits.map(({ rule, limit, scopeValue, used, capacity }) => [`${rule}/${limit}`, scopeValue, used, capacity])
  return [
    rowsUnder(['at (UTC)', 'after', 'what', 'about'], rows),
    leftOut === 0 ? '' : `${leftOut} more events are not kept`,
    `estimate ${JSON.stringify(estimate)}, actual ${actual === null ? '–' : JSON.stringify(actual)}`,
    atStart.length === 0 ? '' : `\nat its start\n${rowsUnder(['limit', 'of', 'used', 'capacity'], atStart)}`,
  ]
    .filter((one) => one !== '')
    .join('\n')
}

function limitsTable(limits: readonly LimitedBy[]): string {
  return rowsUnder(
    ['limit', 'share', 'waited', 'calls now', 'since', 'shared'],
    limits.map(({ rule, limit, share, waitingMs, calls, sinceMs, shared }) => [
      `${rule}/${limit}`,
      `${(100 * share).toFixed(1)} %`,
      durationText(waitingMs),
      calls,
      sinceMs === null ? '–' : utcText(sinceMs),
      shared ? 'by all' : 'no',
    ]),
  )
}

function pointsTable(points: readonly HistoryPoint[]): string {
  return rowsUnder(
    ['at', 'arrived', 'started', 'depth', 'wait p50', 'wait p95', 'done', 'failed', 'refused', '429', 'usd'],
    points.map(({ atMs, arrived, started, depth, waitP50Ms, waitP95Ms, done, failed, refused, limited429, usd }) => [
      utcText(atMs),
      arrived,
      started,
      depth === null ? '–' : depth.toFixed(1),
      durationOrNone(waitP50Ms),
      durationOrNone(waitP95Ms),
      done,
      failed,
      refused,
      limited429,
      usd.toFixed(2),
    ]),
  )
}

type OfWhat = Common & { rule?: string; agent?: string; line?: string; step?: 'minute' | 'hour' }

export function historyCommands(program: Command): void {
  const history = program.command('history').description('what happened: to a call, at limits, and minute by minute')
  common(history.command('call <id>').description('the life of a call: its events, its limits at its start, its costs')).action((id: string, options: Common) =>
    withTollgate(options, async (tollgate) => {
      const life = await tollgate.history.call(id)
      return { prints: life, text: lifeTable(life) }
    }),
  )
  common(history.command('limits').description('which limits have held calls up in the last hour, by their share of the waiting time')).action(
    (options: Common) =>
      withTollgate(options, async (tollgate) => {
        const limits = await tollgate.history.limitedBy()
        return { prints: limits, text: limitsTable(limits) }
      }),
  )
  common(history.command('points').description('the last hour by the minute, or day by the hour, of all calls'))
    .option('--rule <name>', 'of this rule')
    .option('--agent <name>', 'of this agent')
    .option('--line <line>', 'of this line, as `lines` names it')
    .option('--step <step>', 'minute or hour (default: minute)')
    .action(({ rule, agent, line, step, ...options }: OfWhat) =>
      withTollgate(options, async ({ history: of }) => {
        const query = { step }
        const ofOne = rule !== undefined ? of.rule(rule, query) : agent !== undefined ? of.agent(agent, query) : undefined
        const points = await (ofOne ?? (line !== undefined ? of.line(line, query) : of.namespace(query)))
        return { prints: points, text: pointsTable(points) }
      }),
    )
}
