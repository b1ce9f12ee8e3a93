import type { Usage } from '../model/decision.js'
import type { CallEvent, LimitAtStart } from './answers.js'

/** An event of a call as it is kept in its job: one line of JSON. */
export function writeEvent(event: CallEvent): string {
  return `${JSON.stringify(event)}\n`
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

export function writeLimits(usage: readonly Usage[]): string {
  return JSON.stringify(
    usage
      .slice(0, LIMITS_AT_MOST)
      .map(({ rule, limit, scopeValue, unit, capacity, used, claimed }) => [rule, limit, scopeValue, unit, capacity, used, claimed]),
  )
}

export function readLimitsAtStart(text: string | null): LimitAtStart[] {
  try {
    const kept = JSON.parse(text ?? '[]') as [string, string, string, string, number, number, number][]
    return kept.map(([rule, limit, scopeValue, unit, capacity, used, claimed]) => ({ rule, limit, scopeValue, unit, capacity, used, claimed }))
  } catch {
    return []
  }
}
