/** How figures are written: durations with two units at most, clock first, rates per second, money in dollars, everything in UTC. */

import { durationText } from '../../model/time.js'

export const NONE = '–'

/** null = –. */
export function duration(ms: number | null): string {
  return ms === null ? NONE : durationText(ms)
}

const two = (value: number) => String(value).padStart(2, '0')
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

export function monthOf(atMs: number): string {
  const at = new Date(atMs)
  return `${MONTHS[at.getUTCMonth()]} ${at.getUTCFullYear()}`
}

export function dayOf(atMs: number): string {
  const at = new Date(atMs)
  return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`
}

/** 03:19:17, with the date where that is another day. @param precise with ms */
export function clockTime(atMs: number, nowMs: number, precise = false): string {
  const at = new Date(atMs)
  const time = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`
  const exact = precise ? `${time}.${String(at.getUTCMilliseconds()).padStart(3, '0')}` : time
  if (Math.floor(atMs / 86_400_000) === Math.floor(nowMs / 86_400_000)) return exact
  return `${DAYS[at.getUTCDay()]} ${dayOf(atMs)} ${precise ? exact : `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`}`
}

/** "since 02:41:00, for 31 min" */
export function since(sinceMs: number | null, nowMs: number): string {
  return sinceMs === null ? '' : `since ${clockTime(sinceMs, nowMs)}, for ${duration(Math.max(0, nowMs - sinceMs))}`
}

export function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}

/** An amount in the unit of a limit. */
export function amountText(value: number, unit: string): string {
  if (unit === 'usd') return money(value)
  return Number.isInteger(value) || Math.abs(value) >= 100 ? whole(value) : value.toLocaleString('en-US', { maximumFractionDigits: 1 })
}

export function money(value: number): string {
  const size = Math.abs(value)
  const shown = size > 0 && size < 0.1 ? size.toFixed(4) : size.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 })
  return `${value < 0 ? '−' : ''}$${shown}`
}

/** Calls per second, without the unit. */
export function perSecond(value: number | null): string {
  if (value === null) return NONE
  return value === 0 ? '0' : value < 0.1 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : whole(value)
}

/** 91 %. What is not quite full is never 100 %. */
export function percent(share: number): string {
  const value = share * 100
  return `${value < 100 ? Math.min(99, Math.round(value)) : Math.round(value)} %`
}

/** The name of a limit, as short as it can be: tokens/min. */
export function limitText(limit: string): string {
  return limit
    .replace(/\/minute$/, '/min')
    .replace(/\/second$/, '/s')
    .replace(/^concurrency$/, 'running')
}

/** A scope value, its parts apart: `acme|ida` is "acme / ida". */
export function valueName(value: string): string {
  if (value === '*') return 'all calls'
  const plain = value
    .split('|')
    .map((part) => {
      try {
        return decodeURIComponent(part)
      } catch {
        return part
      }
    })
    .join(' / ')
  return plain
}

/** The name of a line, as one reads it. */
export function lineName(rule: string, scopeValue: string): string {
  const [, kind] = /^~pause\.(\w+)$/.exec(rule) ?? []
  if (kind !== undefined) return `pause · ${kind} ${valueName(scopeValue)}`
  if (rule === '~queue') return `queue · ${scopeValue}`
  if (rule === '~returned') return `sent back · ${scopeValue.slice(scopeValue.indexOf('/') + 1)}`
  if (rule.startsWith('~')) return `${rule.slice(1).replace(/^upstream.*/, 'block')} · ${valueName(scopeValue)}`
  return `${rule} · ${valueName(scopeValue)}`
}

/** "globex 371, acme 62" */
export function whoWaits(who: readonly { readonly org: string; readonly calls: number }[], most = 4): string {
  const shown = who.slice(0, most).map(({ org, calls }) => `${org} ${whole(calls)}`)
  return shown.join(', ') + (who.length > most ? ', …' : '')
}

/** The link of the same page with some of its state changed; undefined takes a part away. */
export function linkWith(url: string, changes: Readonly<Record<string, string | undefined>>): string {
  const [path = '/', query = ''] = url.split('?')
  const params = new URLSearchParams(query)
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) params.delete(name)
    else params.set(name, value)
  }
  const text = params.toString()
  return text === '' ? path : `${path}?${text}`
}

export const callLink = (id: string) => `/call?id=${encodeURIComponent(id)}`
export const lineLink = (line: string) => `/lines?line=${encodeURIComponent(line)}`

/** The units of a cost that tell a reader something, in their order; each has a plural. */
export const SHOWN_UNITS: Readonly<Record<string, true>> = { inputTokens: true, outputTokens: true, tokens: true, usd: true }

/** "3,400 tokens, $0.03" */
export function costText(cost: Readonly<Record<string, number>>): string {
  const parts = Object.entries(cost).filter(([unit, value]) => value !== 0 && unit in SHOWN_UNITS)
  return parts.map(([unit, value]) => (unit === 'usd' ? amountText(value, unit) : `${amountText(value, unit)} ${unit}`)).join(', ')
}
