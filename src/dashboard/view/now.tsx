import type { Health } from '../../health/health.js'
import type { HistoryPoint, LimitedBy } from '../../history/answers.js'
import type { Attention, NowBody } from '../model.js'
import { AgentsCard } from './agents.js'
import { clockTime, duration, limitText, lineLink, lineName, NONE, percent, perSecond, whole, whoWaits } from './format.js'
import { RulesCard } from './meters.js'
import { Bar, Card, Empty, Sign, Spark, sparkLabel } from './parts.js'
import { Verdict } from './verdict.js'

const total = (points: readonly HistoryPoint[], field: 'limited429' | 'failed' | 'expired' | 'refused') => points.reduce((sum, point) => sum + point[field], 0)

function Figure({ label, value, unit, note, children }: { label: string; value: string; unit?: string; note: string; children?: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd class="big">
        <span>
          {value}
          {unit !== undefined && <small> {unit}</small>}
        </span>
        {children}
      </dd>
      <dd class="s">{note}</dd>
    </div>
  )
}

function Strip({ health: { figures }, hour }: { health: Health; hour: readonly HistoryPoint[] }) {
  const { arrivingPerSecond: arriving, startingPerSecond: starting, waiting, running, places, workers } = figures
  const stay = arriving === null || starting === null ? null : Math.round((arriving - starting) * 60)
  const recent = hour.slice(-5)
  const p50 = recent.map(({ waitP50Ms }) => waitP50Ms).filter((one) => one !== null)
  const p95 = recent.map(({ waitP95Ms }) => waitP95Ms).filter((one) => one !== null)
  const depths = hour.map(({ depth }) => depth)
  const known = (value: number | null) => (value === null ? NONE : whole(value))
  const growth =
    stay === null
      ? 'not known'
      : stay > 0
        ? `+${whole(stay)} calls a minute stay in line`
        : stay < 0
          ? `${whole(-stay)} calls a minute leave the lines`
          : 'as many start as come'
  return (
    <dl class="card strip">
      <Figure label="Arriving → starting" value={`${perSecond(arriving)} → ${perSecond(starting)}`} unit="/s" note={growth} />
      <Figure label="In line" value={known(waiting)} note={`oldest ${duration(figures.oldestMs)}`}>
        {depths.length > 1 && <Spark values={depths} label={sparkLabel('In line, last hour', depths)} />}
      </Figure>
      <Figure
        label="Wait, started in the last 5 min"
        value={p50.length === 0 ? NONE : duration(Math.max(...p50))}
        unit="p50"
        note={`p95 ${p95.length === 0 ? NONE : duration(Math.max(...p95))}`}
      />
      <Figure
        label="Running"
        value={known(running)}
        unit={`of ${known(places)} places`}
        note={`${known(workers)} ${workers === 1 ? 'worker' : 'workers'}, ${figures.dispatched === true ? 'lines are dispatched' : figures.dispatched === false ? 'no dispatcher' : 'dispatcher not known'}`}
      />
      <Figure
        label="Last hour"
        value={whole(total(hour, 'limited429'))}
        unit="× 429"
        note={`${whole(total(hour, 'failed'))} failed · ${whole(total(hour, 'expired'))} expired · ${whole(total(hour, 'refused'))} refused`}
      />
    </dl>
  )
}

function Cause({ one, nowMs }: { one: LimitedBy; nowMs: number }) {
  const value = one.scopeValue
  const name = [lineName(one.rule, value ?? '*'), limitText(one.limit)].filter((part) => part !== '').join(' · ')
  const shown = one.scopeValue === null ? `${one.rule} · ${limitText(one.limit)}` : name
  return (
    <li>
      <span>{value === null ? shown : <a href={lineLink(`${one.rule}/${value}`)}>{shown}</a>}</span>
      <b class="n">{percent(one.share)}</b>
      <Bar used={one.share} of={1} tone={one.shared && one.calls > 0 ? 'warn' : 'calm'} />
      <small>
        {one.calls === 0 ? 'no call waits for it now' : `${whole(one.calls)} calls: ${whoWaits(one.who)}`}
        {!one.shared && one.calls > 0 && ', each at its own limit'}
        {one.sinceMs !== null && ` · since ${clockTime(one.sinceMs, nowMs)}`}
      </small>
    </li>
  )
}

const MOST_CAUSES = 5

function LimitedByCard({ limitedBy, nowMs }: { limitedBy: readonly LimitedBy[]; nowMs: number }) {
  const rest = limitedBy.slice(MOST_CAUSES)
  const share = rest.reduce((sum, one) => sum + one.share, 0)
  return (
    <Card title="Limited by" note="share of all waiting time, last 15 min" right={<a href="/lines">All lines</a>}>
      {limitedBy.length === 0 ? (
        <Empty>No call has waited in the last 15 minutes.</Empty>
      ) : (
        <ol class="rank">
          {limitedBy.slice(0, MOST_CAUSES).map((one) => (
            <Cause key={`${one.rule} ${one.limit}`} one={one} nowMs={nowMs} />
          ))}
          {rest.length > 0 && (
            <li>
              <span>
                <a href="/lines">{whole(rest.length)} more limits</a>
              </span>
              <b class="n">{percent(share)}</b>
              <Bar used={share} of={1} />
              <small>{whole(rest.reduce((sum, one) => sum + one.calls, 0))} calls</small>
            </li>
          )}
        </ol>
      )}
    </Card>
  )
}

function AttentionCard({ attention }: { attention: readonly Attention[] }) {
  return (
    <Card title="Needs attention" note={attention.length === 0 ? 'nothing' : whole(attention.length)}>
      {attention.length === 0 ? (
        <Empty>Nothing beside the verdict needs a look.</Empty>
      ) : (
        <ul class="todo">
          {attention.map(({ kind, text, detail, link }) => (
            <li key={text}>
              <Sign state={kind === 'warn' ? 'slowed' : 'stopped'} small />
              <span>{text}</span>
              <a href={link.href}>{link.text}</a>
              <small>{detail}</small>
            </li>
          ))}
        </ul>
      )}
    </Card>
  )
}

export function NowPage({ body, health, nowMs }: { body: NowBody; health: Health; nowMs: number }) {
  return (
    <>
      <Verdict health={health} nowMs={nowMs} />
      <main class="wrap" id="main">
        {health.reason === 'EMPTY' ? (
          <Card title="No calls yet">
            <Empty>
              Nothing has been enqueued in this namespace. An app’s first call shows up here at once:
              <br />
              <code>{`tollgate enqueue '{"agent":"openai","payload":{}}'`}</code>
            </Empty>
          </Card>
        ) : (
          <>
            <Strip health={health} hour={body.hour} />
            <div class="two">
              <LimitedByCard limitedBy={body.limitedBy} nowMs={nowMs} />
              <AttentionCard attention={body.attention} />
            </div>
          </>
        )}
        <RulesCard groups={body.groups} />
        {body.agents.length > 0 && <AgentsCard agents={body.agents} nowMs={nowMs} />}
      </main>
    </>
  )
}
