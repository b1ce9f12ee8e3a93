import { agentLimit } from './agent-limits.js'
import type { Bounds, FaultKind, Report } from './facts.js'
import type { History, Story } from './history.js'

/** Faults for which a limiter may count what no program saw, or refuse what it cannot count. */
const BLURS_LIMITERS: readonly FaultKind[] = ['redis away', 'redis refuses writes', 'failover', 'redis clock', 'cut', 'repeated send', 'death', 'slow network']

/**
 * A limiter by key refuses no call that has room: nothing waits for its meters, so what it has let in is all that they count. Judged where what was
 * let in is known: every call counts from its answer on, and those that are under way as well.
 */
export function refusedWithRoom(history: History, { stepMs }: Bounds): Report[] {
  if (history.faults.some(({ fault }) => BLURS_LIMITERS.includes(fault))) return []
  const stories = [...history.stories.values()].filter(({ asked }) => asked.door === 'limiter')
  return stories.flatMap((story): Report[] => {
    const { asked, answered } = story
    if (answered?.outcome !== 'refused') return []
    const [met = []] = history.metersDuring(asked.scopes, asked.atMs, asked.atMs)
    const hasRoom = met.every(({ id, form }) => {
      if (form === null) return true
      const counted = stories.filter((one) => one !== story && mayCount(one, answered.atMs + stepMs) && countsIn(history, one, id))
      const limit = agentLimit(form, true)
      for (const [index, atMs] of counted
        .map(chargedMs)
        .sort((a, b) => a - b)
        .entries())
        limit.charge(Math.min(atMs, asked.atMs), 1, `${index}`)
      return limit.roomAt(asked.atMs, 1, 0) <= asked.atMs
    })
    if (!hasRoom || met.length === 0) return []
    return [
      {
        oracle: 'never stuck',
        atMs: answered.atMs,
        text: `${story.id} was refused by a limiter, and had room in ${met.map(({ id }) => id).join(', ')}`,
        calls: [story.id],
      },
    ]
  })
}

function mayCount({ asked, answered }: Story, untilMs: number): boolean {
  return asked.atMs <= untilMs && answered?.outcome !== 'refused'
}

function chargedMs({ asked, answered }: Story): number {
  return answered?.atMs ?? asked.atMs
}

function countsIn(history: History, { asked }: Story, meter: string): boolean {
  return history.metersDuring(asked.scopes, asked.atMs, asked.atMs).some((version) => version.some(({ id }) => id === meter))
}
