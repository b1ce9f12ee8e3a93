import type { Spend } from '../../history/answers.js'
import { SPENDERS } from '../../model/spender.js'
import { type BudgetsBody, SPENT } from '../model.js'
import { amountText, clockTime, dayOf, duration, limitText, linkWith, monthOf, NONE, percent, valueName, whole } from './format.js'
import { Bar, Card, Empty, Spark, sparkLabel, Tabs } from './parts.js'
import { BurnUp } from './plot.js'

const BY = { org: 'Org', team: 'Team', user: 'User', model: 'Model' } as const
const UNITS = { usd: 'USD', tokens: 'Tokens' } as const
type Budget = NonNullable<Spend['budget']>

const at = (share: number) => `${Math.max(0, Math.min(100, share * 100))}%`

/** A month of a budget: spent, the even pace as a tick, and a band where it will end. */
function Purse({ row, nowMs }: { row: Spend; nowMs: number }) {
  const { budget } = row
  if (budget === null) return <span class="soft">no budget of its own</span>
  const even = budget.endsMs === null ? null : 1 - (budget.endsMs - nowMs) / budget.windowMs
  const monthly = budget.windowMs > 8 * 86_400_000
  const [low, high] = row.monthRange.map((value) => value / budget.amount)
  return (
    <span class="purse">
      <svg aria-hidden="true" preserveAspectRatio="none">
        <rect class="track" y="6" width="100%" height="8" rx="2" />
        <rect class={`used ${isLate(budget) ? 'warn' : 'calm'}`} y="6" width={at(budget.used / budget.amount)} height="8" rx="2" />
        {monthly && low !== undefined && high !== undefined && low < 1 && (
          <rect class="band" x={at(low)} y="3" width={at(Math.min(1, high) - low)} height="14" />
        )}
        {even !== null && <rect class="even" x={at(even)} width="2" height="20" />}
      </svg>
      <small>
        {amountText(budget.used, limitUnit(budget))} of {amountText(budget.amount, limitUnit(budget))}
      </small>
    </span>
  )
}

const limitUnit = ({ limit }: Budget) => (limit.startsWith('usd') ? 'usd' : 'tokens')
const isLate = ({ runsOutMs }: Budget) => runsOutMs !== null

function RunsOut({ row, nowMs, unit }: { row: Spend; nowMs: number; unit: string }) {
  const { budget } = row
  if (budget === null) return <span class="soft">{NONE}</span>
  if (budget.used >= budget.amount) return <b class="warn">spent{budget.endsMs !== null && <small> until {clockTime(budget.endsMs, nowMs)}</small>}</b>
  if (budget.runsOutMs === null)
    return (
      <>
        lasts
        <small class="block">
          month ends at {amountText(row.monthRange[0], unit)} to {amountText(row.monthRange[1], unit)}
        </small>
      </>
    )
  const [earliest, latest] = budget.runsOutRange ?? [budget.runsOutMs, null]
  return (
    <>
      <b class="warn nw">{clockTime(budget.runsOutMs, nowMs)}</b> <small class="nw">in {duration(budget.runsOutMs - nowMs)}</small>
      <small class="block">
        {clockTime(earliest, nowMs)} to {latest === null ? 'the end of its window' : clockTime(latest, nowMs)}
      </small>
    </>
  )
}

function Row({ row, body, url, nowMs }: { row: Spend; body: BudgetsBody; url: string; nowMs: number }) {
  const { budget } = row
  const days = row.days.map((day) => day.amount)
  return (
    <tr class={row.name === body.open ? 'opened' : undefined}>
      <td class="lead">
        <a href={linkWith(url, { open: row.name })} aria-current={row.name === body.open ? 'true' : undefined}>
          <b>{valueName(row.name)}</b>
        </a>
        <small class="block">{budget === null ? `${whole(row.calls)} calls` : `${budget.rule} · ${limitText(budget.limit)}`}</small>
      </td>
      <td class="wide">
        <Purse row={row} nowMs={nowMs} />
      </td>
      <td class="n end">{budget === null ? NONE : <b class={isLate(budget) ? 'warn' : undefined}>{percent(budget.used / budget.amount)}</b>}</td>
      <td class="n" data-l="pace">
        {budget?.paceFactor === null || budget === null ? NONE : `${budget.paceFactor.toFixed(2)}×`}
      </td>
      <td class="wide">
        <RunsOut row={row} nowMs={nowMs} unit={body.unit} />
      </td>
      <td class="n" data-l="today">
        {amountText(row.today, body.unit)}
      </td>
      <td class="n" data-l="month">
        {amountText(row.month, body.unit)}
      </td>
      <td class="n">
        <Spark values={days} tone="calm" label={sparkLabel('A day', days)} floor={0} />
      </td>
    </tr>
  )
}

function Opened({ row, body, nowMs }: { row: Spend; body: BudgetsBody; nowMs: number }) {
  const { budget } = row
  const left = budget === null ? null : Math.max(0, budget.amount - budget.used)
  const title = `${valueName(row.name)}: ${left === null ? `${amountText(row.month, body.unit)} this month` : `${amountText(left, body.unit)} left`}, ${amountText(row.pacePerDay, body.unit)} a day`
  const raise = new URLSearchParams({
    kind: body.by === 'model' ? 'rule' : body.by,
    name: body.by === 'model' ? (budget?.rule ?? '') : row.name,
    rules: budget?.rule ?? '',
    allow: '1.5×',
  })
  return (
    <Card
      title={title}
      note={
        budget === null || budget.endsMs === null
          ? undefined
          : budget.runsOutMs === null
            ? `lasts until its window ends at ${clockTime(budget.endsMs, nowMs)}`
            : `runs out ${duration(budget.endsMs - budget.runsOutMs)} before its window ends`
      }
      right={
        budget !== null && (
          <a class="btn" href={`/rules?${raise}#grant`}>
            Raise…
          </a>
        )
      }
    >
      <div class="body">
        <BurnUp row={row} unit={body.unit} nowMs={nowMs} />
      </div>
    </Card>
  )
}

function Spenders({ users, unit }: { users: readonly Spend[]; unit: string }) {
  const most = Math.max(1e-9, ...users.map(({ month }) => month))
  return (
    <Card title="Top spenders" note="users, this month">
      {users.length === 0 ? (
        <Empty>No call of this month has named a user.</Empty>
      ) : (
        <ol class="rank">
          {users.slice(0, 8).map(({ name, month, today }) => (
            <li key={name}>
              <span>{valueName(name)}</span>
              <b class="n">{amountText(month, unit)}</b>
              <Bar used={month} of={most} />
              <small>{amountText(today, unit)} of it today</small>
            </li>
          ))}
        </ol>
      )}
    </Card>
  )
}

/** From a middle line: to the right too high, to the left (amber) too low. */
function ErrorBar({ error }: { error: number }) {
  const half = Math.min(50, Math.abs(error) * 50)
  return (
    <svg class="err" aria-hidden="true" preserveAspectRatio="none">
      <rect class="track" width="100%" height="8" rx="2" />
      <rect class={error < 0 ? 'used warn' : 'used calm'} x={error < 0 ? `${50 - half}%` : '50%'} width={`${half}%`} height="8" />
      <rect class="mid" x="50%" width="1" height="8" />
    </svg>
  )
}

function EstimateErrors({ models }: { models: readonly Spend[] }) {
  const known = models.filter(({ actualTokens }) => actualTokens > 0)
  return (
    <Card title="Estimate error" note="tokens estimated, against what settled calls used this month">
      {known.length === 0 ? (
        <Empty>No call of this month has been settled by its usage.</Empty>
      ) : (
        <table class="t">
          <caption class="vh">Estimate error by model</caption>
          <thead>
            <tr>
              <th>Model</th>
              <th class="n">Calls</th>
              <th>Estimated</th>
              <th class="n">Above their estimate</th>
            </tr>
          </thead>
          <tbody>
            {known.map(({ name, calls, estimatedTokens, actualTokens, aboveEstimate }) => {
              const error = estimatedTokens / actualTokens - 1
              return (
                <tr key={name}>
                  <td class="lead">
                    <b>{valueName(name)}</b>
                  </td>
                  <td class="n" data-l="calls">
                    {whole(calls)}
                  </td>
                  <td class="wide">
                    <span class="cell">
                      <ErrorBar error={error} />
                      <span class={error < -0.05 ? 'nw warn' : 'nw'}>
                        {(Math.abs(error) * 100).toFixed(1)} % too {error < 0 ? 'low' : 'high'}
                      </span>
                    </span>
                  </td>
                  <td class="n" data-l="above">
                    <span class={aboveEstimate > 0.2 ? 'warn' : undefined}>{(aboveEstimate * 100).toFixed(1)} %</span>
                  </td>
                </tr>
              )
            })}
          </tbody>
        </table>
      )}
    </Card>
  )
}

export function BudgetsPage({ body, nowMs, url }: { body: BudgetsBody; nowMs: number; url: string }) {
  const { rows, by, unit, open } = body
  const opened = rows.find(({ name }) => name === open) ?? rows[0]
  const to = (changes: Record<string, string>) => linkWith(url, { open: undefined, ...changes })
  return (
    <main class="wrap" id="main">
      <section class="card">
        <header>
          <h1>Budgets</h1>
          <small>
            {monthOf(nowMs)}, UTC, the {dayOf(nowMs)}; those that spend most first
          </small>
          <span class="right">
            <Tabs label="By" options={SPENDERS.map((one) => ({ text: BY[one], href: to({ by: one }), on: one === by }))} />{' '}
            <Tabs label="In" options={SPENT.map((one) => ({ text: UNITS[one], href: to({ unit: one }), on: one === unit }))} />
          </span>
        </header>
        {rows.length === 0 ? (
          <Empty>
            No call of this month has named {by === 'org' ? 'an org' : `a ${by}`}. Calls that name one are counted here, whether a rule limits them or not.
          </Empty>
        ) : (
          <table class="t budgets">
            <caption class="vh">Spent by {by}</caption>
            <thead>
              <tr>
                <th>{BY[by]}</th>
                <th class="purses">
                  Its tightest budget
                  <span class="key">
                    <span>
                      <Bar used={1} of={1} small /> spent
                    </span>
                    <span>┃ even pace</span>
                    <span>▒ likely at the end</span>
                  </span>
                </th>
                <th class="n">Spent</th>
                <th class="n">Pace</th>
                <th>Runs out</th>
                <th class="n">Today</th>
                <th class="n">This month</th>
                <th class="n">A day, last 30</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <Row key={row.name} row={row} body={body} url={url} nowMs={nowMs} />
              ))}
            </tbody>
          </table>
        )}
      </section>
      <div class="two">
        {opened !== undefined && <Opened key={`${by} ${unit} ${opened.name}`} row={opened} body={body} nowMs={nowMs} />}
        <Spenders users={body.users} unit={unit} />
      </div>
      <EstimateErrors models={body.models} />
    </main>
  )
}
