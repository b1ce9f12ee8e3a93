import type { Command } from 'commander'
import type { Health } from '../health/health.js'
import { redisAway } from '../health/judge.js'
import type { RuleStats, Spend, SpendQuery } from '../history/answers.js'
import { VIOLATORS } from '../history/tally.js'
import { TollgateError } from '../model/errors.js'
import { SPENDERS } from '../model/spender.js'
import { type Common, common, EXIT, print, UNAVAILABLE, withTollgate } from './common.js'
import { rowsUnder, utcText } from './table.js'

function words({ state, reason, sinceMs, sentence, whom, why, next, also, asOfMs }: Health): string {
  const lines = [
    `${state.toUpperCase()} (${reason})${sinceMs === null ? '' : ` since ${utcText(sinceMs)}`}`,
    sentence,
    ...(whom === '' ? [] : [`Whom: ${whom}`]),
    `Why: ${why}`,
    `Do: ${next.text}${next.command === '' ? '' : `\n  ${next.command}`}`,
    ...also.map((one) => `Also: ${one.reason}: ${one.sentence}`),
    `As of ${utcText(asOfMs)}`,
  ]
  return lines.join('\n')
}

function isFlowing({ state }: Health): boolean {
  return state === 'flowing'
}

function statsTable(stats: readonly RuleStats[]): string {
  const ms = (value: number | null) => (value === null ? '–' : value.toFixed(2))
  return rowsUnder(
    ['rule', 'checks', 'exceeded', 'rate', 'by limit', 'store errors', 'unchecked', 'mean ms', 'p95 ms'],
    stats.map(({ rule, checks, exceeded, hitRate, exceededByLimit, storeErrors, unchecked, checkMeanMs, checkP95Ms }) => [
      rule,
      checks,
      exceeded,
      `${(100 * hitRate).toFixed(1)} %`,
      Object.entries(exceededByLimit)
        .map(([limit, count]) => `${limit} ${count}`)
        .join(', ') || '–',
      storeErrors,
      unchecked,
      ms(checkMeanMs),
      ms(checkP95Ms),
    ]),
  )
}

function spendTable(rows: readonly Spend[], unit: string): string {
  const amount = (value: number) => (unit === 'tokens' ? Math.round(value).toLocaleString('en-US') : `$${value.toFixed(2)}`)
  return rowsUnder(
    ['name', 'today', 'month', 'at this pace', 'budget', 'used', 'runs out'],
    rows.map(({ name, today, month, monthAtPace, budget }) => [
      name,
      amount(today),
      amount(month),
      amount(monthAtPace),
      budget === null ? '–' : `${budget.rule}/${budget.limit}`,
      budget === null ? '–' : `${amount(budget.used)} of ${amount(budget.amount)}`,
      budget === null || budget.runsOutMs === null ? '–' : utcText(budget.runsOutMs),
    ]),
  )
}

export function healthCommands(program: Command): void {
  common(program.command('health').description('whether work flows; if not, what holds it up, since when, whom it hurts, and what to do')).action(
    async (options: Common) => {
      try {
        await withTollgate(options, async (tollgate) => {
          const health = await tollgate.health()
          return { prints: health, text: words(health), ok: isFlowing(health) }
        })
      } catch (error) {
        if (!(error instanceof TollgateError) || !UNAVAILABLE.includes(error.code)) throw error
        const health = redisAway(Date.now(), null)
        print(health, options.json, words(health))
        process.exitCode = EXIT.unavailable
        // A connection that never came up keeps the process alive for two seconds more.
        process.exit()
      }
    },
  )
  common(program.command('stats [rule]').description('what rules have decided since the last reset; and who found no room most often'))
    .option('--violations', 'the users, addresses and endpoints that found no room most often')
    .option('--reset', 'forget what was counted')
    .action((rule: string | undefined, options: Common & { violations?: boolean; reset?: boolean }) =>
      withTollgate(options, async (tollgate) => {
        if (options.reset === true) {
          await tollgate.stats.reset()
          return { prints: { reset: true }, text: 'what was counted is forgotten' }
        }
        if (options.violations === true) {
          const violations = await tollgate.stats.violations()
          const rows = VIOLATORS.flatMap((kind) => violations[kind].map(({ name, count }) => [kind, name, count]))
          return { prints: violations, text: rowsUnder(['kind', 'name', 'found no room'], rows) }
        }
        const stats = rule === undefined ? await tollgate.stats.all() : [await tollgate.stats.rule(rule)]
        return { prints: rule === undefined ? stats : stats[0], text: statsTable(stats) }
      }),
    )
  common(program.command('budget').description('what orgs, teams, users or models spend, and when their budgets run out'))
    .option('--by <kind>', `${SPENDERS.join(', ')} (default: org)`)
    .option('--unit <unit>', 'usd or tokens (default: usd)')
    .option('--limit <rows>', 'how many at most (default: 20)')
    .action((options: Common & { by?: SpendQuery['by']; unit?: SpendQuery['unit']; limit?: string }) =>
      withTollgate(options, async (tollgate) => {
        const { by = 'org', unit = 'usd', limit } = options
        const rows = await tollgate.history.spend({ by, unit, limit: limit === undefined ? undefined : Number(limit) })
        return { prints: rows, text: spendTable(rows, unit) }
      }),
    )
}
