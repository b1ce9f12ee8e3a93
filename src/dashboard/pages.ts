import { z } from 'zod'
import { SPENDERS } from '../model/spender.js'
import { LINE_ORDERS, SPENT } from './model.js'

const text = z.string().max(4096)
const count = z.coerce.number().int().min(0).max(1e9)

/** The state of each page, as its address has it. What is not understood in an address is left out. */
const queries = {
  now: z.object({}),
  lines: z.object({
    order: z.enum(LINE_ORDERS).catch('longest').default('longest'),
    from: count.catch(0).default(0),
    rest: text.optional().catch(undefined),
    line: text.optional().catch(undefined),
    org: text.optional().catch(undefined),
    place: count.catch(0).default(0),
    cursor: text.optional().catch(undefined),
  }),
  call: z.object({ id: text.catch('').default('') }),
  budgets: z.object({
    by: z.enum(SPENDERS).catch('org').default('org'),
    unit: z.enum(SPENT).catch('usd').default('usd'),
    open: text.optional().catch(undefined),
  }),
  rules: z.object({
    edit: text.optional().catch(undefined),
    by: text.catch('').default(''),
    audit: count.catch(20).default(20),
    ...Object.fromEntries(
      ['kind', 'name', 'rules', 'allow', 'reason', 'lasts', 'pause', 'paused', 'agent', 'rule', 'value'].map((name) => [
        name,
        text.optional().catch(undefined),
      ]),
    ),
  }),
} as const

export type PageName = keyof typeof queries
export type PageQuery<Name extends PageName> = z.output<(typeof queries)[Name]>

/** A page and its state. */
export type PageAsked = { [Name in PageName]: { readonly page: Name; readonly query: PageQuery<Name> } }[PageName]

const PATHS: Readonly<Record<string, PageName>> = { '/': 'now', '/lines': 'lines', '/call': 'call', '/budgets': 'budgets', '/rules': 'rules' }
export const PAGE_PATHS = Object.keys(PATHS)

/** The page of an address of this server, with the address as it is kept: two viewers of the same page share what is read for it. */
export function askedPage(address: string): { readonly asked: PageAsked; readonly url: string } | null {
  if (!address.startsWith('/') || address.startsWith('//') || !URL.canParse(address, 'http://page')) return null
  const { pathname, searchParams } = new URL(address, 'http://page')
  const page = PATHS[pathname]
  if (page === undefined) return null
  const known = Object.keys(queries[page].shape)
  const given = [...searchParams].filter(([name]) => known.includes(name)).sort(([one], [other]) => (one < other ? -1 : 1))
  const query = queries[page].parse(Object.fromEntries(given))
  const kept = new URLSearchParams(given).toString()
  return { asked: { page, query } as PageAsked, url: kept === '' ? pathname : `${pathname}?${kept}` }
}
