import type { Usage } from '../model/decision.js'
import type { CallEvent, LimitAtStart } from './answers.js'

/** An event of a call as it is kept in its job: one line of JSON. */
export function writeEvent(event: CallEvent): string {
  // Each call has these two: JSON.stringify would take a microsecond for each.
  const { atMs, what, attempt, cost } = event
  if (what === 'started' && attempt !== undefined) return `{"atMs":${atMs},"what":"started","attempt":${attempt}}\n`
  if (what === 'settled' && cost !== undefined) return `{"atMs":${atMs},"what":"settled","cost":${numbersInJson(cost)}}\n`
  return `${JSON.stringify(event)}\n`
}

/** @param numbers by names that need no escapes */
function numbersInJson(numbers: Readonly<Record<string, number>>): string {
  let text = ''
  for (const name in numbers) if (Number.isFinite(numbers[name])) text += `${text === '' ? '' : ','}"${name}":${numbers[name]}`
  return `{${text}}`
}

/** The events in a job, and how many were left out. What cannot be read is left out, too: other programs can write into jobs. */
export function readEvents(text: string | null): { readonly events: readonly CallEvent[]; readonly leftOut: number } {
  const [head = '', ...lines] = (text ?? '').split('\n')
  const events = lines.flatMap((line): CallEvent[] => {
    try {
      const event = JSON.parse(line) as CallEvent
      return typeof event.atMs === 'number' && typeof event.what === 'string' ? [event] : []
    } catch {
      return []
    }
  })
  return { events, leftOut: /^\d+$/.test(head) ? Number(head) : 0 }
}

/** The most limits of a call that are kept. */
const LIMITS_AT_MOST = 24

/** What the limits of calls under the same rules have in common, as JSON. */
interface LimitsHead {
  readonly limits: readonly Pick<Usage, 'rule' | 'limit' | 'capacity'>[]
  readonly json: string
}

/** The last ones in use; overrides make several of a rule. */
const HEADS_AT_MOST = 32
const heads: LimitsHead[] = []

function headOf(usage: readonly Usage[], count: number): string {
  const known = heads.find(({ limits }) => {
    if (limits.length !== count) return false
    for (let n = 0; n < count; n++) {
      const [one, other] = [limits[n], usage[n]]
      if (one?.limit !== other?.limit || one?.rule !== other?.rule || one?.capacity !== other?.capacity) return false
    }
    return true
  })
  if (known !== undefined) return known.json
  const limits = usage.slice(0, count)
  const json = JSON.stringify(limits.map(({ rule, limit, unit, capacity }) => [rule, limit, unit, capacity]))
  heads.unshift({ limits, json })
  if (heads.length > HEADS_AT_MOST) heads.pop()
  return json
}

/**
 * Limits at a start: a list of them, and a list of the scope value of each rule, then what is used and claimed of each limit. The first list is the
 * same text for all calls under the same rules: written out with each call it would take most of the time that a call's history takes.
 */
export function writeLimits(usage: readonly Usage[]): string {
  const count = Math.min(usage.length, LIMITS_AT_MOST)
  const values: (string | number)[] = []
  for (let n = 0; n < count; n++) if (usage[n]?.rule !== usage[n - 1]?.rule) values.push((usage[n] as Usage).scopeValue)
  for (let n = 0; n < count; n++) {
    const { used, claimed } = usage[n] as Usage
    values.push(used, claimed)
  }
  return `[${headOf(usage, count)},${JSON.stringify(values)}]`
}

type Head = [rule: string, limit: string, unit: string, capacity: number]

/** Also as the version before wrote it. */
export function readLimitsAtStart(text: string | null): LimitAtStart[] {
  try {
    const kept = JSON.parse(text ?? '[]') as [Head[], (string | number)[]] | [string, string, string, string, number, number, number][]
    if (kept.length === 0) return []
    if (typeof kept[0]?.[0] === 'string')
      return (kept as [string, string, string, string, number, number, number][]).map(([rule, limit, scopeValue, unit, capacity, used, claimed]) => ({
        rule,
        limit,
        scopeValue,
        unit,
        capacity,
        used,
        claimed,
      }))
    const [limits, values] = kept as [Head[], (string | number)[]]
    const numbers = values.slice(-2 * limits.length) as number[]
    let value = -1
    return limits.map(([rule, limit, unit, capacity], n) => {
      if (rule !== limits[n - 1]?.[0]) value++
      return { rule, limit, scopeValue: String(values[value]), unit, capacity, used: numbers[2 * n] as number, claimed: numbers[2 * n + 1] as number }
    })
  } catch {
    return []
  }
}
