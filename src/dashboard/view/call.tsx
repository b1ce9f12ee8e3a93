import type { CallEvent } from '../../history/answers.js'
import { type CallBody, fullness } from '../model.js'
import { Ask } from './actions.js'
import { amountText, clockTime, duration, limitText, lineLink, lineName, NONE, percent, SHOWN_UNITS, whole } from './format.js'
import { LifeBar, SAID, Steps, type Stretch, stretches, sum } from './life.js'
import { cancelQuestion, ownerOf } from './lines.js'
import { Card, Empty, Limits, type Tone } from './parts.js'

type Known = NonNullable<CallBody['explanation']>

const ENDED = new Set(['done', 'failed', 'expired'])

function headline(call: Known, all: readonly Stretch[], nowMs: number): string {
  const waited = sum(all, 'wait')
  const held = sum(all, 'held')
  const ran = sum(all, 'run')
  const parts = [
    waited > 0 ? `waited ${duration(waited)} in line` : '',
    held > 0 ? `was held ${duration(held)} by its agent` : '',
    ran > 0 ? `ran ${duration(ran)}` : '',
  ]
  const spent = parts.filter((one) => one !== '').join(', ')
  const capital = spent.charAt(0).toUpperCase() + spent.slice(1)
  switch (call.state) {
    case 'waiting': {
      const before =
        call.position === null
          ? ''
          : call.position === 0
            ? 'it is the next of its line'
            : `${whole(call.position)} ${call.position === 1 ? 'call goes' : 'calls go'} before it`
      const line = call.binding === null ? '' : ` of ${lineName(call.binding.rule, call.binding.scopeValue)}`
      if (call.etaMs === null)
        return `Waits${line === '' ? '' : ` for ${limitText(call.binding?.limit ?? '')}${line}`}; when it starts cannot be known${before === '' ? '' : `: ${before}`}.`
      return `Starts about ${clockTime(nowMs + call.etaMs, nowMs)}, in ${duration(call.etaMs)}${before === '' ? '' : `: ${before}`}${line === '' ? '' : `, in the line${line}`}.`
    }
    case 'woken':
      return 'Has room, and is on its way to a worker.'
    case 'queued':
      return 'Stands in BullMQ; the gate decides when a worker takes it.'
    case 'running':
      return `Runs${ran > 0 ? ` for ${duration(ran)}` : ''}${waited > 0 ? `, after ${duration(waited)} in line` : ''}.`
    case 'done':
      return spent === '' ? 'Is done.' : `${capital}; done.`
    case 'failed':
      return `${spent === '' ? 'Failed' : `${capital}, and failed`}${call.reason === null ? '.' : `: ${call.reason}`}`
    case 'expired':
      return `Its deadline passed before it could start${waited > 0 ? `, after ${duration(waited)} in line` : ''}: it cost nothing.`
    default:
      return call.state satisfies never
  }
}

function Difference({ estimate, actual }: { estimate: Readonly<Record<string, number>>; actual: Readonly<Record<string, number>> | null }) {
  const units = Object.keys(SHOWN_UNITS).filter((unit) => (estimate[unit] ?? 0) !== 0 || (actual?.[unit] ?? 0) !== 0)
  if (units.length === 0) return <Empty>Nothing was estimated.</Empty>
  return (
    <table class="t">
      <caption class="vh">Estimate and actual, by unit</caption>
      <thead>
        <tr>
          <th>Unit</th>
          <th class="n">Estimate</th>
          <th class="n">Actual</th>
          <th class="n">Difference</th>
        </tr>
      </thead>
      <tbody>
        {units.map((unit) => {
          const [from, to] = [estimate[unit] ?? 0, actual?.[unit]]
          const difference = to === undefined ? null : to - from
          return (
            <tr key={unit}>
              <td class="lead">
                <b>{unit}</b>
              </td>
              <td class="n">{amountText(from, unit)}</td>
              <td class="n" data-l="→">
                {to === undefined ? NONE : amountText(to, unit)}
              </td>
              <td class="n end">
                {difference === null ? NONE : `${difference > 0 ? '+' : difference < 0 ? '−' : ''}${amountText(Math.abs(difference), unit)}`}
              </td>
            </tr>
          )
        })}
      </tbody>
    </table>
  )
}

function Answers({ events, nowMs }: { events: readonly CallEvent[]; nowMs: number }) {
  const answers = events.filter(({ headers }) => headers !== undefined)
  if (answers.length === 0) return <Empty>No answer of the agent has told rate-limit headers.</Empty>
  return (
    <dl class="kv body">
      {answers.map(({ atMs, what, headers }) => [
        <dt key={`${atMs} ${what}`} class="answer">
          {clockTime(atMs, nowMs, true)}
        </dt>,
        <dd key={`${atMs} ${what} value`} class={what === 'returned' ? 'answer stop' : 'answer'}>
          {what === 'returned' ? '■ 429, not now' : '● answered'}
        </dd>,
        ...Object.entries(headers ?? {}).flatMap(([name, value]) => [<dt key={`${atMs} ${name}`}>{name}</dt>, <dd key={`${atMs} ${name} value`}>{value}</dd>]),
      ])}
    </dl>
  )
}

interface Standing {
  readonly rule: string
  readonly scopeValue: string
  readonly limit: string
  readonly unit: string
  readonly capacity: number
  readonly used: number
  readonly claimed: number
}

/** Every limit that covers the call; the rule that binds is first. */
function Standings({ limits, binding }: { limits: readonly Standing[]; binding: Known['binding'] }) {
  const meters = new Map<string, Standing[]>()
  for (const one of limits) meters.set(`${one.rule}/${one.scopeValue}`, [...(meters.get(`${one.rule}/${one.scopeValue}`) ?? []), one])
  const binds = (meter: readonly Standing[]) => meter.some(({ rule, scopeValue }) => rule === binding?.rule && scopeValue === binding.scopeValue)
  const sorted = [...meters.values()].sort(
    (one, other) => Number(binds(other)) - Number(binds(one)) || Math.max(...other.map(fullness)) - Math.max(...one.map(fullness)),
  )
  return (
    <table class="t">
      <caption class="vh">Limits that cover the call</caption>
      <thead>
        <tr>
          <th>Rule</th>
          <th>Used + claimed of limit</th>
        </tr>
      </thead>
      <tbody>
        {sorted.map((meter) => {
          const [first] = meter
          if (first === undefined) return null
          return (
            <tr key={`${first.rule}/${first.scopeValue}`}>
              <td class="lead">
                {binds(meter) ? (
                  <a href={lineLink(`${first.rule}/${first.scopeValue}`)}>{lineName(first.rule, first.scopeValue)}</a>
                ) : (
                  lineName(first.rule, first.scopeValue)
                )}
              </td>
              <td class="wide">
                <Limits usage={meter as never} waitedFor={binds(meter) ? (binding?.limit ?? null) : null} />
              </td>
            </tr>
          )
        })}
      </tbody>
    </table>
  )
}

const TAGS: Record<Known['state'], readonly [mark: string, tone: Tone]> = {
  waiting: ['▲', 'warn'],
  woken: ['●', 'calm'],
  queued: ['●', 'calm'],
  running: ['●', 'calm'],
  done: ['●', 'calm'],
  failed: ['■', 'stop'],
  expired: ['■', 'stop'],
}

export function CallPage({ body, nowMs }: { body: CallBody; nowMs: number }) {
  const { id, explanation, listed, history } = body
  if (explanation === null)
    return (
      <main class="wrap" id="main">
        <Card level={1} title={id === '' ? 'A call' : id}>
          <Empty>
            {id === ''
              ? 'Give the id of a call in the field above: its whole life is shown, from its enqueue to its end. Ids stand in the lines, in tickets and in the header X-Tollgate-Call.'
              : 'No call of this id is known: it never was, it stands in another namespace, or it ended too long ago.'}
          </Empty>
        </Card>
      </main>
    )
  const events = history?.events ?? []
  const ended = ENDED.has(explanation.state)
  const endMs = ended ? (events.at(-1)?.atMs ?? nowMs) : nowMs
  const all = stretches(events, endMs)
  const restMs = explanation.state === 'waiting' ? (explanation.etaMs ?? 0) : 0
  const [mark, tone] = TAGS[explanation.state]
  const first = events[0]
  const limits = ended && history !== null && history.limits.length > 0 ? history.limits : explanation.usage
  const atStart = limits === history?.limits
  const key = (['wait', 'held', 'run'] as const).filter((span) => sum(all, span) > 0)
  return (
    <main class="wrap" id="main">
      <section class="card">
        <header>
          <b class="m">{id}</b>
          <span class={`tag ${tone}`}>
            {mark} {explanation.state}
          </span>
          {listed !== null && (
            <span class="soft">
              {ownerOf(listed)} → {[listed.agent, listed.model, listed.endpoint].filter((one) => one !== undefined).join(' · ')}
            </span>
          )}
          {!ended && (
            <span class="right">
              <Ask text="Cancel…" label={`Cancel call ${id}`} question={cancelQuestion(id, listed === null ? 'Its app' : ownerOf(listed))} />
            </span>
          )}
        </header>
        <div class="body">
          <h1>{headline(explanation, all, nowMs)}</h1>
          {explanation.todo !== null && <p class="soft">{explanation.todo}</p>}
          {explanation.warning !== undefined && <p class="warn">▲ {explanation.warning}</p>}
          {all.length > 0 && (
            <>
              <LifeBar all={all} restMs={restMs} />
              <div class="axis">
                <small>
                  {first !== undefined && clockTime(first.atMs, nowMs)} {first?.what}
                </small>
                <span class="key">
                  {key.map((span) => (
                    <small key={span} class={span}>
                      {span === 'wait' ? '◆' : span === 'held' ? '■' : '●'} {SAID[span]} {duration(sum(all, span))}
                    </small>
                  ))}
                </span>
                <small>
                  {ended
                    ? `${clockTime(endMs, nowMs)} ${explanation.state}`
                    : explanation.etaMs !== null && explanation.state === 'waiting'
                      ? `${clockTime(nowMs + explanation.etaMs, nowMs)} starts, about`
                      : 'now'}
                </small>
              </div>
            </>
          )}
        </div>
      </section>
      {history !== null && (
        <div class="two">
          <Card title="Its life" note="time since the step before">
            {events.length === 0 ? <Empty>No event of it is kept.</Empty> : <Steps events={events} leftOut={history.leftOut} nowMs={nowMs} />}
          </Card>
          <div class="stack">
            <Card title="Estimate and actual" note={history.actual === null ? 'not settled yet' : undefined}>
              <Difference estimate={history.estimate} actual={history.actual} />
            </Card>
            <Card title="The agent’s answers" note={history.returns > 0 ? `sent back ${whole(history.returns)} times` : undefined}>
              <Answers events={events} nowMs={nowMs} />
            </Card>
          </div>
        </div>
      )}
      {limits.length > 0 && (
        <Card
          title={atStart ? 'Each limit as it was at its start' : 'Each limit that covers it, now'}
          note={
            atStart
              ? 'this call included'
              : explanation.binding === null
                ? `the fullest is at ${percent(Math.max(...limits.map(fullness)))}`
                : 'the one that binds is first'
          }
        >
          <Standings limits={limits} binding={atStart ? null : explanation.binding} />
        </Card>
      )}
    </main>
  )
}
