import type { Health } from '../../health/health.js'
import type { HistoryPoint, LimitedBy } from '../../history/answers.js'
import type { AgentRow, Attention, NowBody, RuleGroup, ValueRow } from '../model.js'
import { Ask, send } from './actions.js'
import { clock, duration, limitName, lineLink, lineName, NONE, percent, perSecond, since, valueName, whole, whoWaits } from './format.js'
import { Bar, Card, Empty, Limits, Sign, Spark, sparkLabel } from './parts.js'
import { scopeText } from './rules.js'
import { causeLink, WORDS } from './shell.js'

/** The full verdict: state and since, one sentence, whom it hurts, why, and the one thing to do. */
function Verdict({ health, nowMs }: { health: Health; nowMs: number }) {
  const cause = health.state === 'flowing' ? null : causeLink(health)
  const { text, command } = health.next
  return (
    <section class={`verdict ${health.state}`} aria-label="Verdict">
      <div class="wrap">
        <span class="state">
          <Sign state={health.state} />
          {WORDS[health.state]}
        </span>{' '}
        <span class="soft">{since(health.sinceMs, nowMs)}</span>
        <h1>{health.sentence}</h1>
        <dl class="facts">
          <div>
            <dt>Whom it hurts</dt>
            <dd>{health.whom === '' ? 'Nobody.' : health.whom}</dd>
          </div>
          <div>
            <dt>Why</dt>
            <dd>
              {health.why} {cause !== null && <a href={cause.href}>{cause.text}</a>}
            </dd>
          </div>
          <div>
            <dt>Do next</dt>
            <dd>
              {text}
              {command !== '' && (
                <>
                  <br />
                  <code>{command}</code>
                </>
              )}
              <NextAction health={health} />
            </dd>
          </div>
        </dl>
      </div>
    </section>
  )
}

/** The one action, as a link to its form, filled in: it never acts by one click. */
function NextAction({ health: { reason, of } }: { health: Health }) {
  const to = (href: string, text: string) => (
    <div>
      <a class="btn main" href={href}>
        {text}
      </a>
    </div>
  )
  if (reason === 'PAUSED') return to('/rules#pauses', 'Look at the pauses…')
  if (reason === 'FLOOD' && of.org !== null)
    return to(`/rules?${new URLSearchParams({ kind: 'org', name: of.org, allow: '0.5×' })}#grant`, `Halve ${of.org} for 1 h…`)
  if (reason === 'BUDGET' && of.rule !== null)
    return to(`/rules?${new URLSearchParams({ kind: 'rule', name: of.rule, allow: '1.5×' })}#grant`, `Raise ${of.rule}…`)
  if ((reason === 'RATE' || reason === 'CONCURRENCY') && of.rule !== null) return to(`/rules?edit=${encodeURIComponent(of.rule)}`, `Open ${of.rule}…`)
  if ((reason === 'OVERSIZED_HEAD' || reason === 'CALL_FAILS') && of.call !== null) return to(`/call?id=${encodeURIComponent(of.call)}`, 'Open the call…')
  if (reason === 'UPSTREAM') return to('/#agents', 'Look at the agent…')
  return null
}

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
        {depths.length > 1 && (
          <Spark values={depths} tone={waiting !== null && waiting > 0 ? 'calm' : 'calm'} label={sparkLabel('In line, last hour', depths)} />
        )}
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
  const name = [lineName(one.rule, value ?? '*'), limitName(one.limit)].filter((part) => part !== '').join(' · ')
  const shown = one.scopeValue === null ? `${one.rule} · ${limitName(one.limit)}` : name
  return (
    <li>
      <span>{value === null ? shown : <a href={lineLink(`${one.rule}/${value}`)}>{shown}</a>}</span>
      <b class="n">{percent(one.share)}</b>
      <Bar used={one.share} of={1} tone={one.shared && one.calls > 0 ? 'warn' : 'calm'} />
      <small>
        {one.calls === 0 ? 'no call waits for it now' : `${whole(one.calls)} calls: ${whoWaits(one.who)}`}
        {!one.shared && one.calls > 0 && ', each at its own limit'}
        {one.sinceMs !== null && ` · since ${clock(one.sinceMs, nowMs)}`}
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

function Value({ row, group }: { row: ValueRow; group: RuleGroup }) {
  const { history, depth, usage, note, value } = row
  const waits = group.shared && depth > 0
  const calm = depth === 0 && usage.every(({ used, claimed, capacity }) => used + claimed < capacity)
  return (
    <tr class={calm ? 'calm' : undefined}>
      <td class="lead">
        {depth > 0 ? <a href={lineLink(`${group.spec.name}/${value}`)}>{valueName(value)}</a> : valueName(value)}
        {note !== null && <small class="block">{note}</small>}
      </td>
      <td class="wide">
        <Limits usage={usage} waitedFor={waits ? row.limit : null} />
      </td>
      <td class="n waits" data-l="wait">
        {history === null || history.waitP50Ms === null ? NONE : `${duration(history.waitP50Ms)} / ${duration(history.waitP95Ms)}`}
      </td>
      <td class="n rate">{history === null ? NONE : `${perSecond(history.startingPerSecond)} /s`}</td>
      <td class="n depth end">
        {history !== null && <Spark values={history.depths} tone={waits ? 'warn' : 'calm'} label={sparkLabel('In line, last hour', history.depths)} />}
        {depth > 0 ? <b class={waits ? 'warn' : undefined}>{whole(depth)}</b> : <span>0</span>}
      </td>
    </tr>
  )
}

const WITHOUT_ROOM: Record<string, string> = {
  hard: 'refuses',
  retry_after: 'refuses with a time',
  graceful: 'degrades, then waits',
  throttle: 'slows down',
  queue: 'waits in line',
}

function RulesCard({ groups }: { groups: readonly RuleGroup[] }) {
  return (
    <Card
      title="Rules"
      note={
        <span class="key">
          <span>
            <Bar used={1} of={1} small /> used
          </span>
          <span>
            <Bar used={0} claimed={1} of={1} small /> claimed by woken calls
          </span>
          <span>
            <Bar used={0} of={1} small /> free
          </span>
          <span class="warn">
            <Bar used={1} of={1} tone="warn" small /> all wait for it
          </span>
        </span>
      }
      right={<a href="/rules">Edit</a>}
    >
      {groups.length === 0 ? (
        <Empty>
          No rule is in force: nothing is limited. <a href="/rules?edit=">Add a rule</a>
        </Empty>
      ) : (
        <table class="t meters">
          <caption class="vh">Limits and their usage, by rule and scope value</caption>
          <thead>
            <tr>
              <th>Counted for</th>
              <th>Used + claimed of limit</th>
              <th class="n">Wait p50 / p95</th>
              <th class="n">Starting</th>
              <th class="n">In line, last hour</th>
            </tr>
          </thead>
          {groups.map((group) => (
            <tbody key={group.spec.name}>
              <tr class="group">
                <th colSpan={5} scope="rowgroup">
                  <b>{group.spec.name}</b>{' '}
                  <small>
                    {scopeText(group.spec.scope)} · {WITHOUT_ROOM[group.spec.strategy ?? 'queue'] ?? group.spec.strategy}
                    {group.moreLines > 0 && ` · ${whole(group.moreLines)} more lines`}
                    {group.values.length === 0 && ' · nothing is counted yet'}
                  </small>
                </th>
              </tr>
              {group.values.map((row) => (
                <Value key={row.value} row={row} group={group} />
              ))}
            </tbody>
          ))}
        </table>
      )}
    </Card>
  )
}

function agentState({ state }: AgentRow): { sign: 'flowing' | 'slowed' | 'stopped'; word: string } {
  if (state === null) return { sign: 'flowing', word: 'open' }
  if (state.state === 'blocked') return { sign: 'stopped', word: 'blocked' }
  return state.factor < 1 || state.state !== 'open'
    ? { sign: 'slowed', word: state.state === 'canary' ? 'probing' : 'recovering' }
    : { sign: 'flowing', word: 'open' }
}

function saysOfItself(row: AgentRow): string {
  const said = Object.entries(row.state?.observed ?? {})
  return said
    .map(([unit, of]) => `${of?.remaining === null || of?.remaining === undefined ? '' : `${whole(of.remaining)} of `}${whole(of?.limit ?? 0)} ${unit}`)
    .join(', ')
}

function AgentLine({ row, nowMs }: { row: AgentRow; nowMs: number }) {
  const { sign, word } = agentState(row)
  const tone = sign === 'stopped' ? 'stop' : sign === 'slowed' ? 'warn' : 'calm'
  const { state } = row
  const refused = row.limited429.reduce((sum, count) => sum + count, 0)
  const story =
    state === null
      ? 'has never told anything of its limits'
      : state.blockedMs > 0
        ? `no call until ${clock(nowMs + state.blockedMs, nowMs)}, in ${duration(state.blockedMs)}; then a probe`
        : state.cutAt !== null && state.factor < 1
          ? `cut at ${clock(new Date(state.cutAt).valueOf(), nowMs)}, and growing back`
          : 'open'
  const name = [state?.agent ?? row.name, state?.endpoint, state?.model].filter((one) => one !== undefined && one !== '*').join(' · ')
  return (
    <tr>
      <td class="lead">
        <b>{name}</b>
        <small class="block">{story}</small>
      </td>
      <td class="end">
        <span class={`is ${tone}`}>
          <Sign state={sign} small /> {word}
        </span>
      </td>
      <td class="cap wide">
        <Bar used={state?.factor ?? 1} of={1} tone={tone} />
        <span>{percent(state?.factor ?? 1)}</span>
      </td>
      <td class="n" data-l="starting">
        {perSecond(row.startingPerSecond)} /s
      </td>
      <td class="n depth" data-l="429s">
        {refused > 0 && <Spark values={row.limited429} tone="warn" label={sparkLabel('429s, last hour', row.limited429)} />}
        <span>{whole(refused)}</span>
      </td>
      <td data-l="says">{saysOfItself(row) || <span class="soft">nothing</span>}</td>
      <td class="act">
        {state !== null && sign !== 'flowing' && (
          <Ask
            text="Lift…"
            label={`Lift the block of ${name}`}
            question={{
              title: `Lift the block of ${name}?`,
              effect: `${name} is called at full capacity at once. If it still refuses, each call gets a 429 and the block comes back.`,
              button: 'Lift the block',
              danger: true,
              run: async () => {
                await send('POST', '/v1/meters/lift', {
                  agent: state.agent,
                  ...(state.endpoint === undefined ? {} : { endpoint: state.endpoint }),
                  ...(state.model === undefined ? {} : { model: state.model }),
                })
                return `The block of ${name} was lifted.`
              },
            }}
          />
        )}
      </td>
    </tr>
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
        {body.agents.length > 0 && (
          <Card id="agents" title="Agents" note="what their answers have taught the fleet">
            <table class="t">
              <caption class="vh">Agents</caption>
              <thead>
                <tr>
                  <th>Agent</th>
                  <th>State</th>
                  <th>Capacity</th>
                  <th class="n">Starting</th>
                  <th class="n">429s, last hour</th>
                  <th>It says of itself</th>
                  <th>
                    <span class="vh">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {body.agents.map((row) => (
                  <AgentLine key={`${row.name} ${row.state?.endpoint} ${row.state?.model}`} row={row} nowMs={nowMs} />
                ))}
              </tbody>
            </table>
          </Card>
        )}
      </main>
    </>
  )
}
