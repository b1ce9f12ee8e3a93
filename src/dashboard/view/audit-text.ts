import type { AuditEntry } from '../../administration/audit.js'

/** What says nothing to a reader: ids, and what stands in other columns. */
const LEFT_OUT = new Set(['id', 'by', 'grantedAt', 'since', 'for'])
const MOST = 6

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null

/** Every value in a tree, by its path. Entries of a list with a name go by that. */
function leaves(value: unknown, path = ''): [path: string, value: string][] {
  if (!isObject(value)) return [[path, String(value)]]
  return Object.entries(value).flatMap(([field, of]) => {
    if (LEFT_OUT.has(field) || of === undefined) return []
    const name = Array.isArray(value) && isObject(of) && typeof of['name'] === 'string' ? of['name'] : field
    return leaves(of, path === '' ? name : `${path}.${name}`)
  })
}

/** What a change changed: the values that differ, each before and after. */
export function changeText(before: unknown, after: unknown): string {
  const [was, is] = [new Map(isObject(before) ? leaves(before) : []), new Map(isObject(after) ? leaves(after) : [])]
  const paths = [...new Set([...was.keys(), ...is.keys()])].filter((path) => was.get(path) !== is.get(path))
  const shown = paths.slice(0, MOST).map((path) => {
    const [old, fresh] = [was.get(path), is.get(path)]
    if (before === null || old === undefined) return `${path} ${fresh}`
    return after === null || fresh === undefined ? `${path} ${old} → none` : `${path} ${old} → ${fresh}`
  })
  const more = paths.length > MOST ? `, and ${paths.length - MOST} more` : ''
  const whole = before === null ? 'none → ' : after === null ? 'ended: ' : ''
  return paths.length === 0 ? (after === null ? 'ended' : before === null ? 'begun' : 'unchanged') : `${whole}${shown.join(', ')}${more}`
}

/** Whom or what an entry is about: overrides are named by their subject, not by their id. */
export function subjectText({ subject, before, after }: Pick<AuditEntry, 'subject' | 'before' | 'after'>): string {
  const of = [after, before].find(isObject)?.['for']
  const [kind, name] = isObject(of) ? (Object.entries(of).find(([, value]) => typeof value === 'string') ?? []) : []
  return kind === undefined ? subject : `${kind} ${String(name)}`
}
