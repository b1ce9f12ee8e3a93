import type { ComponentChildren } from 'preact'
import type { Health } from '../../health/health.js'
import type { PageModel } from '../model.js'
import { clockTime, limitText, lineLink, lineName, since } from './format.js'
import { Hatch, Sign } from './parts.js'

const MARKS = { flowing: '●', slowed: '▲', stopped: '■', unknown: '○' } as const
export const WORDS = { flowing: 'Flowing', slowed: 'Slowed', stopped: 'Stopped', unknown: 'Unknown' } as const
const PAGES = [
  ['now', '/', 'Now'],
  ['lines', '/lines', 'Lines'],
  ['call', '/call', 'Call'],
  ['budgets', '/budgets', 'Budgets'],
  ['rules', '/rules', 'Rules'],
] as const

/** What the verdict is about, in a few words: for the tab's title. */
function subjectOf({ of }: Health): string {
  if (of.rule !== null) return [lineName(of.rule, of.scopeValue ?? '*'), of.limit === null ? '' : limitText(of.limit)].filter((one) => one !== '').join(' · ')
  return of.agent ?? of.queue ?? ''
}

/** The title of the tab: the verdict first, so that it can be read among forty tabs. */
export function titleOf({ health, body }: Pick<PageModel, 'health' | 'body'>): string {
  if (body.page === 'login') return 'Sign in – Tollgate'
  const subject = health.state === 'flowing' ? '' : subjectOf(health)
  const page = body.page === 'call' && body.id !== '' ? body.id : (PAGES.find(([name]) => name === body.page)?.[2] ?? 'Tollgate')
  return `${MARKS[health.state]} ${WORDS[health.state]}${subject === '' ? '' : `: ${subject}`} – ${page} – Tollgate`
}

/** Where the cause of the verdict can be looked at. */
export function causeLink({ of, reason }: Health): { href: string; text: string } | null {
  if (reason === 'PAUSED') return { href: '/rules#pauses', text: 'Pauses' }
  if (of.call !== null) return { href: `/call?id=${encodeURIComponent(of.call)}`, text: of.call }
  if (reason === 'BUDGET') return { href: '/budgets', text: 'Budgets' }
  if (of.rule !== null) return { href: lineLink(`${of.rule}/${of.scopeValue ?? '*'}`), text: lineName(of.rule, of.scopeValue ?? '*') }
  return of.agent === null ? null : { href: '/#agents', text: of.agent }
}

/** The verdict in one line, on every page but Now. */
function VerdictLine({ health, nowMs }: { health: Health; nowMs: number }) {
  const cause = health.state === 'flowing' ? null : causeLink(health)
  return (
    <section class={`verdict line ${health.state}`} aria-label="Verdict">
      <div class="wrap">
        <span class="state">
          <Sign state={health.state} />
          {WORDS[health.state]}
        </span>
        <span class="sentence">
          {health.sentence} {cause !== null && <a href={cause.href}>{cause.text}</a>}
        </span>
        <span class="soft nw opt">{since(health.sinceMs, nowMs)}</span>
      </div>
    </section>
  )
}

function Top({ model, live }: { model: PageModel; live: boolean }) {
  const { body, atMs, queues, signedIn } = model
  return (
    <header class="top">
      <div class="wrap">
        <a class="brand" href="/">
          <svg width="18" height="16" viewBox="0 0 18 16" aria-hidden="true">
            <path d="M1 16V1h17" />
            <path d="M5 5l3 0M11 5l3 0" />
          </svg>
          Tollgate
        </a>
        <nav class="nav" aria-label="Pages">
          {PAGES.map(([name, href, text]) => (
            <a key={name} href={href} aria-current={name === body.page ? 'page' : undefined}>
              {text}
            </a>
          ))}
          {queues && (
            <a class="ext" href="/queues/">
              Queues ↗
            </a>
          )}
        </nav>
        <search class="find">
          <form action="/call">
            <input type="search" name="id" placeholder="Call id" aria-label="Find a call by its id" />
          </form>
        </search>
        <span class={`live${live ? '' : ' old'}`}>
          <i />
          <span class="nw">{live ? `${clockTime(atMs, atMs)} UTC` : `as of ${clockTime(atMs, atMs)}`}</span>
        </span>
        {signedIn && (
          <form class="out" action="/logout" method="post">
            <button type="submit" class="btn quiet">
              Sign out
            </button>
          </form>
        )}
      </div>
    </header>
  )
}

interface ShellProps {
  model: PageModel
  /** Whether figures come; without it the page says of when they are. */
  live: boolean
  /** What was done last, for screen readers and eyes. */
  told: string
  children: ComponentChildren
}

export function Shell({ model, live, told, children }: ShellProps) {
  const { body, health, atMs, mayChange } = model
  const inside = body.page !== 'login'
  const hasBand = body.page === 'now'
  return (
    <div id="shell" class={live ? '' : 'stale'}>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <Hatch />
      {inside && <Top model={model} live={live} />}
      {inside && !hasBand && <VerdictLine health={health} nowMs={atMs} />}
      {children}
      {inside && !mayChange && (
        <p class="wrap lock" id="lock">
          Your key may look, and change nothing: to change something, <a href="/login">sign in</a> with an administrator’s key.
        </p>
      )}
      <p class="told" role="status" aria-live="polite">
        {told}
      </p>
    </div>
  )
}
