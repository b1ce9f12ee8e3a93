import type { CallEvent } from '../../history/answers.js'
import { clockTime, costText, duration, limitText, lineName, whole } from './format.js'

/** How the time after an event was spent. */
export type Span = 'wait' | 'run' | 'held' | 'rest'
const AFTER: Record<CallEvent['what'], Span | null> = {
  enqueued: 'rest',
  waiting: 'wait',
  woken: 'wait',
  started: 'run',
  part: 'run',
  answered: 'run',
  returned: 'held',
  settled: 'rest',
  done: null,
  failed: null,
  expired: null,
  refused: null,
}
export const SAID: Record<Span, string> = { wait: 'in line', run: 'ran', held: 'held by a 429', rest: 'between' }

export interface Stretch {
  readonly span: Span
  readonly ms: number
  readonly why: string
}

/** The life of a call as stretches of time: after a 429 it is held until it starts again. */
export function stretches(events: readonly CallEvent[], endMs: number): Stretch[] {
  let held = false
  return events.flatMap((event, n) => {
    held = event.what === 'returned' || (held && event.what !== 'started')
    const after = AFTER[event.what]
    const ms = (events[n + 1]?.atMs ?? endMs) - event.atMs
    if (after === null || ms <= 0) return []
    const span = held && after !== 'run' ? 'held' : after
    const why = event.rule === undefined ? SAID[span] : `${SAID[span]}: ${lineName(event.rule, event.scopeValue ?? '*')}`
    return [{ span, ms, why }]
  })
}

export function sum(all: readonly Stretch[], span: Span): number {
  return all.filter((one) => one.span === span).reduce((total, { ms }) => total + ms, 0)
}

/** One bar: what the call spent its life with. */
export function LifeBar({ all, restMs }: { all: readonly Stretch[]; restMs: number }) {
  const total = all.reduce((ms, one) => ms + one.ms, 0) + restMs
  if (total <= 0) return null
  let from = 0
  const place = (ms: number) => {
    const at = { x: `${(100 * from) / total}%`, width: `${Math.max(0.4, (100 * ms) / total - 0.15)}%` }
    from += ms
    return at
  }
  const label = all.map(({ why, ms }) => `${why} ${duration(ms)}`).join(', ')
  return (
    <svg class="life" role="img" aria-label={restMs > 0 ? `${label}, starts in about ${duration(restMs)}` : label} preserveAspectRatio="none">
      {all.map(({ span, ms, why }, n) => (
        <rect key={n} class={span} {...place(ms)} height="20" rx="2">
          <title>{`${why}, ${duration(ms)}`}</title>
        </rect>
      ))}
      {restMs > 0 && <rect class="rest" {...place(restMs)} height="20" rx="2" />}
    </svg>
  )
}

const TITLES: Record<CallEvent['what'], string> = {
  enqueued: 'Enqueued',
  waiting: 'In line',
  woken: 'Woken',
  started: 'Started',
  part: 'Part',
  answered: 'Answered',
  returned: '429: sent back',
  settled: 'Settled',
  done: 'Done',
  failed: 'Failed',
  expired: 'Expired',
  refused: 'Refused',
}

function details(event: CallEvent, nowMs: number): string {
  const place = event.position === undefined ? '' : `place ${whole(event.position + 1)}`
  const limit = event.limit === undefined ? '' : `for ${limitText(event.limit)}`
  const told = event.etaMs === undefined ? '' : event.etaMs === null ? 'no time could be told' : `start told as ${clockTime(event.atMs + event.etaMs, nowMs)}`
  const attempt = event.attempt === undefined ? '' : `attempt ${event.attempt}`
  const cost = event.cost === undefined ? '' : costText(event.cost)
  return [place, limit, told, attempt, cost, event.why ?? ''].filter((one) => one !== '').join(', ')
}

export function Steps({ events, leftOut, nowMs }: { events: readonly CallEvent[]; leftOut: number; nowMs: number }) {
  return (
    <ol class="steps">
      {events.map((event, n) => {
        const before = events[n - 1]
        const gap = leftOut > 0 && n === 4
        return [
          gap ? (
            <li key="gap" class="gap">
              <div>{whole(leftOut)} more events are not kept</div>
            </li>
          ) : null,
          <li key={n} class={AFTER[event.what] ?? event.what}>
            <time dateTime={new Date(event.atMs).toISOString()}>{clockTime(event.atMs, nowMs, true)}</time>
            <span class="gone">{before === undefined ? '' : duration(event.atMs - before.atMs)}</span>
            <div>
              <b>
                {event.what === 'waiting' && event.position === undefined ? 'Moved to line' : TITLES[event.what]}
                {event.rule !== undefined && `: ${lineName(event.rule, event.scopeValue ?? '*')}`}
              </b>{' '}
              {details(event, nowMs)}
            </div>
          </li>,
        ]
      })}
    </ol>
  )
}
