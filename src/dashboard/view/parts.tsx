import type { ComponentChildren } from 'preact'
import type { Usage } from '../../model/decision.js'
import { fullness } from '../model.js'
import { amountText, clockTime, duration, limitText, percent, whole } from './format.js'

export type State = 'flowing' | 'slowed' | 'stopped' | 'unknown'
export type Tone = 'calm' | 'warn' | 'stop'

/** The shape of a state: its word stands beside it. */
export function Sign({ state, small = false }: { state: State; small?: boolean }) {
  const size = small ? 10 : 14
  return (
    <svg class={`sign ${state}`} width={size} height={size} viewBox="0 0 14 14" aria-hidden="true">
      {state === 'flowing' && <circle cx="7" cy="7" r="6.5" />}
      {state === 'slowed' && <path d="M7 .8 13.8 13.2H.2Z" />}
      {state === 'stopped' && <rect x="1" y="1" width="12" height="12" />}
      {state === 'unknown' && <circle cx="7" cy="7" r="5.8" />}
    </svg>
  )
}

const share = (part: number, of: number) => `${of <= 0 ? (part > 0 ? 100 : 0) : Math.max(0, Math.min(100, (100 * part) / of))}%`

/** One limit: used solid, claimed hatched, free the track. Widths are attributes of an SVG: the pages have no inline style. */
export function Bar({ used, claimed = 0, of, tone = 'calm', small = false }: { used: number; claimed?: number; of: number; tone?: Tone; small?: boolean }) {
  const solid = Math.min(used, of)
  return (
    <svg class={`bar ${tone}${small ? ' small' : ''}`} aria-hidden="true" preserveAspectRatio="none">
      <rect class="track" width="100%" height="8" rx="2" />
      <rect class="used" width={share(solid, of)} height="8" rx="2" />
      {claimed > 0 && <rect class="claimed" x={share(solid, of)} width={share(Math.min(claimed, of - solid), of)} height="8" />}
    </svg>
  )
}

/** The head of a column of buttons: read out, not shown. */
export function ActionsHead() {
  return (
    <th>
      <span class="vh">Actions</span>
    </th>
  )
}

/** The hatch of claims; once on each page. */
export function Hatch() {
  return (
    <svg class="hidden" aria-hidden="true" width="0" height="0">
      <defs>
        {(['calm', 'warn', 'stop'] as const).map((tone) => (
          <pattern key={tone} id={`hatch-${tone}`} class={tone} width="4" height="8" patternUnits="userSpaceOnUse" patternTransform="skewX(-25)">
            <rect width="2" height="8" />
          </pattern>
        ))}
      </defs>
    </svg>
  )
}

/** The limits of one scope value, the tightest first. @param waitedFor the limit that calls in line wait for, where all share it */
export function Limits({ usage, waitedFor }: { usage: readonly Pick<Usage, 'limit' | 'unit' | 'used' | 'claimed' | 'capacity'>[]; waitedFor?: string | null }) {
  const sorted = [...usage].sort((one, other) => Number(other.limit === waitedFor) - Number(one.limit === waitedFor) || fullness(other) - fullness(one))
  return (
    <ul class="limits">
      {sorted.map((one) => {
        const tone = one.limit === waitedFor ? 'warn' : 'calm'
        const claimed = one.claimed > 0 ? ` + ${amountText(one.claimed, one.unit)}` : ''
        return (
          <li key={one.limit} class={tone}>
            <span>{limitText(one.limit)}</span>
            <Bar used={one.used} claimed={one.claimed} of={one.capacity} tone={tone} />
            <b>{percent(fullness(one))}</b>
            <small>
              {amountText(one.used, one.unit)}
              {claimed} of {amountText(one.capacity, one.unit)}
            </small>
          </li>
        )
      })}
    </ul>
  )
}

/** Below this a line does not look like a mountain. */
const FLOOR = 10

/** A line over the last hour; gaps where nothing is known. */
export function Spark({ values, tone = 'calm', label, floor = FLOOR }: { values: readonly (number | null)[]; tone?: Tone; label: string; floor?: number }) {
  const most = Math.max(floor, 1e-9, ...values.map((value) => value ?? 0))
  const step = 72 / Math.max(1, values.length - 1)
  let pen = 'M'
  let path = ''
  for (const [n, value] of values.entries()) {
    if (value === null) pen = 'M'
    else {
      path += `${pen}${(n * step).toFixed(1)} ${(18 - (17 * value) / most).toFixed(1)}`
      pen = 'L'
    }
  }
  return (
    <svg class={`spark ${tone}`} width="72" height="20" viewBox="0 0 72 20" role="img" aria-label={label}>
      <path d={path === '' ? 'M0 18' : path} />
    </svg>
  )
}

export function sparkLabel(what: string, values: readonly (number | null)[]): string {
  const known = values.filter((value) => value !== null)
  return known.length === 0
    ? `${what}: not known`
    : `${what}: from ${whole(known[0] ?? 0)} to ${whole(known.at(-1) ?? 0)}, at most ${whole(Math.max(...known))}`
}

/** Clock first, then how far. */
export function Eta({ etaMs, maxMs = null, nowMs, unknown }: { etaMs: number | null; maxMs?: number | null; nowMs: number; unknown: ComponentChildren }) {
  if (etaMs === null) return <span class="soft">{unknown}</span>
  const later = maxMs !== null && maxMs - etaMs > Math.max(2000, etaMs / 10)
  return (
    <>
      <span class="nw">{clockTime(nowMs + etaMs, nowMs)}</span>{' '}
      <small class="nw">
        in {duration(etaMs)}
        {later && ` to ${duration(maxMs)}`}
      </small>
    </>
  )
}

export function Card({ title, note, right, id, level = 2, children }: CardProps) {
  const Heading = level === 1 ? 'h1' : 'h2'
  return (
    <section class="card" id={id}>
      <header>
        <Heading>{title}</Heading>
        {note !== undefined && <small>{note}</small>}
        {right !== undefined && <span class="right">{right}</span>}
      </header>
      {children}
    </section>
  )
}

interface CardProps {
  title: ComponentChildren
  note?: ComponentChildren
  right?: ComponentChildren
  id?: string
  level?: 1 | 2
  children?: ComponentChildren
}

/** Links that choose one of several views; the chosen one is said, too. */
export function Tabs({ label, options }: { label: string; options: readonly { href: string; text: string; on: boolean }[] }) {
  return (
    <nav class="tabs" aria-label={label}>
      {options.map(({ href, text, on }) => (
        <a key={text} href={href} aria-current={on ? 'true' : undefined}>
          {text}
        </a>
      ))}
    </nav>
  )
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="empty">{children}</div>
}

export function Pager({ text, links }: { text: ComponentChildren; links: readonly { text: string; href: string | null }[] }) {
  return (
    <div class="pager">
      <span>{text}</span>
      {links.map(({ text: name, href }) =>
        href === null ? (
          <span key={name} class="btn off" aria-disabled="true">
            {name}
          </span>
        ) : (
          <a key={name} class="btn" href={href}>
            {name}
          </a>
        ),
      )}
    </div>
  )
}
