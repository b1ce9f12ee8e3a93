import type { ListedCall } from '../../gate/waiting.js'
import { CALLS_OF_PAGE, LINE_ORDERS, LINES_OF_PAGE, type LineOrder, type LineRow, type LinesBody, type OpenLine } from '../model.js'
import { Ask, send } from './actions.js'
import { callLink, clockTime, duration, limitText, lineName, linkWith, NONE, percent, perSecond, valueName, whole } from './format.js'
import { ActionsHead, Card, Empty, Eta, Pager, Spark, sparkLabel, Tabs } from './parts.js'

const ORDERS: Record<LineOrder, string> = { longest: 'Longest', oldest: 'Oldest', slowest: 'Slowest' }

interface PageProps {
  body: LinesBody
  nowMs: number
  url: string
}

/** Why the calls of a line wait, in a few words. */
function Cause({ row, nowMs }: { row: LineRow; nowMs: number }) {
  const from = row.sinceMs === null ? '' : `, since ${clockTime(row.sinceMs, nowMs)}`
  if (row.pause !== null)
    return (
      <>
        paused by {row.pause.by}
        {from}
        {row.pause.reason !== undefined && `: “${row.pause.reason}”`}
      </>
    )
  const what = {
    RATE: 'no room in',
    BUDGET: 'spent:',
    CONCURRENCY: 'all places taken:',
    UPSTREAM: 'the agent refused calls',
    PAUSED: 'paused',
    NO_WORKER: 'no worker of the queue lives',
    WORKERS_BUSY: 'all workers of the queue are busy',
    QUEUE_PAUSED: 'the queue is paused',
    DELAYED: 'delayed by its producer',
  }
  // Its first call may be about to be woken, and wait for nothing more.
  const says = row.waitsFor === null ? (row.limit === null ? 'about to be woken' : what.RATE) : what[row.waitsFor]
  const names = row.waitsFor === null || row.waitsFor === 'RATE' || row.waitsFor === 'BUDGET' || row.waitsFor === 'CONCURRENCY'
  return <>{`${says}${names && row.limit !== null ? ` ${limitText(row.limit)}` : ''}${from}`}</>
}

function Who({ row }: { row: LineRow }) {
  const all = row.who.reduce((sum, { calls }) => sum + calls, 0)
  if (all === 0) return <span class="soft">{NONE}</span>
  return (
    <>
      {row.who.slice(0, 4).map(({ org, calls }, n) => (
        <span key={org}>
          {n > 0 && ', '}
          {n === 0 ? <b>{valueName(org)}</b> : valueName(org)} {percent(calls / all)}
        </span>
      ))}
      {row.who.length > 4 && ', …'}
    </>
  )
}

const SENT_BACK = 'when its agent takes it'

function Row({ row, open, url, nowMs }: { row: LineRow; open: boolean; url: string; nowMs: number }) {
  const tone = row.shared ? 'warn' : 'calm'
  const depths = row.history?.depths ?? []
  const name = lineName(row.rule, row.scopeValue)
  return (
    <tr class={open ? 'opened' : undefined}>
      <td class="lead">
        <a class="twist" href={linkWith(url, { line: open ? undefined : row.line, place: undefined, org: undefined, cursor: undefined })} aria-expanded={open}>
          {name}
        </a>
        <small class="under">
          <Cause row={row} nowMs={nowMs} />
        </small>
      </td>
      <td class="n depth end">
        {depths.length > 0 && <Spark values={depths} tone={tone} label={sparkLabel('In line, last hour', depths)} />}
        <b class={row.shared ? 'warn' : undefined}>{whole(row.depth)}</b>
      </td>
      <td class="n" data-l="leaving">
        {row.history === null ? <span class="soft">{NONE}</span> : `${perSecond(row.history.startingPerSecond)} /s`}
      </td>
      <td class="n" data-l="· oldest">
        {duration(row.oldestMs)}
      </td>
      <td data-l="last starts">
        {row.pause === null ? (
          <Eta etaMs={row.lastEtaMs} maxMs={row.lastEtaMaxMs} nowMs={nowMs} unknown={row.waitsFor === 'UPSTREAM' ? SENT_BACK : 'cannot be known'} />
        ) : (
          <>
            when resumed{' '}
            <a class="nw" href="/rules#pauses">
              Resume…
            </a>
          </>
        )}
      </td>
      <td class="wide">
        <Who row={row} />
      </td>
    </tr>
  )
}

export function cancelQuestion(id: string, of: string) {
  return {
    title: `Cancel call ${id}?`,
    effect: `It leaves its line and never runs; what it had reserved goes to the calls behind it. ${of} gets an error.`,
    button: 'Cancel the call',
    danger: true,
    run: async () => {
      const { cancelled } = await send<{ cancelled: boolean }>('DELETE', `/v1/calls/${encodeURIComponent(id)}`)
      return cancelled ? `Call ${id} was cancelled.` : `Call ${id} had finished already.`
    },
  }
}

/** Whose call it is: "acme / ida". */
export function ownerOf({ org, team, user, ip, agent }: Pick<ListedCall, 'org' | 'team' | 'user' | 'ip' | 'agent'>): string {
  const names = [org, team, user].filter((one) => one !== undefined)
  return names.length > 0 ? names.join(' / ') : (ip ?? agent ?? NONE)
}

function CallRow({ call, nowMs, line }: { call: ListedCall; nowMs: number; line: LineRow | undefined }) {
  const elsewhere = call.binding !== null && call.binding.rule !== line?.rule
  return (
    <tr>
      <td class="n lead">{call.position === null ? NONE : call.position + 1}</td>
      <td class="lead">
        <a class="m" href={callLink(call.id)}>
          {call.id}
        </a>
      </td>
      <td>{ownerOf(call)}</td>
      <td class="opt">{[call.agent, call.model].filter((one) => one !== undefined).join(' · ')}</td>
      <td class="n opt">{call.priority ?? 0}</td>
      <td class="n" data-l="· waited">
        {duration(call.waitedMs)}
      </td>
      <td class="end">
        <Eta etaMs={call.etaMs} maxMs={call.etaMaxMs} nowMs={nowMs} unknown="cannot be known" />
      </td>
      <td data-l="·" class={elsewhere ? undefined : 'opt'}>
        {call.binding === null ? NONE : limitText(call.binding.limit)}
        {elsewhere && call.binding !== null && <span class="soft"> of {lineName(call.binding.rule, call.binding.scopeValue)}</span>}
      </td>
      <td class="act">
        <Ask text="Cancel…" label={`Cancel call ${call.id}`} question={cancelQuestion(call.id, ownerOf(call))} />
      </td>
    </tr>
  )
}

function pagesOf({ from, cursor, calls, org }: OpenLine, depth: number, url: string) {
  if (org !== null)
    return [
      { text: 'First', href: linkWith(url, { cursor: undefined }) },
      { text: 'Next', href: cursor === null ? null : linkWith(url, { cursor }) },
    ]
  const last = Math.max(0, Math.floor((depth - 1) / CALLS_OF_PAGE) * CALLS_OF_PAGE)
  const to = (start: number) => linkWith(url, { place: start === 0 ? undefined : String(start) })
  return [
    { text: 'Last', href: from >= last ? null : to(last) },
    { text: 'Previous', href: from === 0 ? null : to(Math.max(0, from - CALLS_OF_PAGE)) },
    { text: 'Next', href: calls.length < CALLS_OF_PAGE || from + CALLS_OF_PAGE >= depth ? null : to(from + CALLS_OF_PAGE) },
  ]
}

/** What is open under a row: its pace in a sentence, and a page of its calls. */
function Opened({ open, row, url, nowMs }: { open: OpenLine; row: LineRow; url: string; nowMs: number }) {
  const rate = row.history?.startingPerSecond ?? 0
  const orgs = row.who.filter(({ org }) => org !== NONE).slice(0, 5)
  const filter = (org: string | undefined) => linkWith(url, { org, place: undefined, cursor: undefined })
  const shown = open.org === null ? `${whole(open.from + 1)}–${whole(open.from + open.calls.length)} of ${whole(row.depth)}` : `of ${open.org}`
  return (
    <tr class="inner">
      <td colSpan={6}>
        <div class="why">
          <span>
            {rate > 0 ? (
              <>
                <b>{perSecond(rate)} calls a second</b> leave this line: one in {duration(1000 / rate)}.
              </>
            ) : (
              'No call has left this line in the last five minutes.'
            )}{' '}
            {row.todo}
          </span>
          {orgs.length > 1 && (
            <Tabs
              label="Whose calls"
              options={[
                { text: `All ${whole(row.depth)}`, href: filter(undefined), on: open.org === null },
                ...orgs.map(({ org, calls }) => ({ text: `${valueName(org)} ${whole(calls)}`, href: filter(org), on: open.org === org })),
              ]}
            />
          )}
        </div>
        <table class="t">
          <caption class="vh">Calls in the line {lineName(row.rule, row.scopeValue)}</caption>
          <thead>
            <tr>
              <th class="n">Place</th>
              <th>Call</th>
              <th>Of</th>
              <th>To</th>
              <th class="n">Priority</th>
              <th class="n">Has waited</th>
              <th>Starts about</th>
              <th>Limit that binds</th>
              <ActionsHead />
            </tr>
          </thead>
          <tbody>
            {open.calls.map((call) => (
              <CallRow key={call.id} call={call} nowMs={nowMs} line={row} />
            ))}
          </tbody>
        </table>
        {open.calls.length === 0 && <Empty>No call stands here any more.</Empty>}
        <Pager text={shown} links={pagesOf(open, row.depth, url)} />
      </td>
    </tr>
  )
}

export function LinesPage({ body, nowMs, url }: PageProps) {
  const { rows, order, from, lineCount, waiting, ranked, rest, open } = body
  const to = (changes: Record<string, string | undefined>) =>
    linkWith(url, { line: undefined, org: undefined, place: undefined, cursor: undefined, ...changes })
  const next = from + LINES_OF_PAGE < ranked ? to({ from: String(from + LINES_OF_PAGE) }) : rest === null ? null : to({ from: undefined, rest })
  const note =
    lineCount === 0
      ? 'no call waits'
      : `${whole(waiting)} calls wait in ${whole(lineCount)} ${lineCount === 1 ? 'line' : 'lines'}${ranked < lineCount ? `; the ${ranked} longest are ranked` : ''}`
  return (
    <main class="wrap" id="main">
      <Card
        level={1}
        title="Lines"
        note={note}
        right={
          <Tabs
            label="Order"
            options={LINE_ORDERS.map((one) => ({
              text: ORDERS[one],
              href: to({ order: one === 'longest' ? undefined : one, from: undefined }),
              on: one === order,
            }))}
          />
        }
      >
        {rows.length === 0 ? (
          <Empty>No call waits: every call starts when it comes. A line shows up here as soon as a call has no room.</Empty>
        ) : (
          <table class="t lines">
            <caption class="vh">Lines, {ORDERS[order].toLowerCase()} first</caption>
            <thead>
              <tr>
                <th>Line</th>
                <th class="n">In line, last hour</th>
                <th class="n">Leaving</th>
                <th class="n">Oldest has waited</th>
                <th>The last one starts</th>
                <th>Who waits</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => [
                <Row key={row.line} row={row} open={open?.line === row.line} url={url} nowMs={nowMs} />,
                open?.line === row.line ? <Opened key={`${row.line} calls`} open={open} row={row} url={url} nowMs={nowMs} /> : null,
              ])}
            </tbody>
          </table>
        )}
        {(from > 0 || next !== null) && (
          <Pager
            text={`${whole(from + 1)}–${whole(from + rows.length)} of ${whole(lineCount)}`}
            links={[
              { text: 'Previous', href: from === 0 ? null : to({ from: from - LINES_OF_PAGE <= 0 ? undefined : String(from - LINES_OF_PAGE) }) },
              { text: 'Next', href: next },
            ]}
          />
        )}
      </Card>
    </main>
  )
}
