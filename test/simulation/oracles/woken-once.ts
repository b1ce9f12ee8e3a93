import type { FaultKind, HandedFact, Report } from './facts.js'
import type { History, Story } from './history.js'

/** A call is handed out again so often at most where nothing explains it, … */
const MOST_AGAIN = 2
/** … and all calls of a healthy fleet together so often, per call that ends, and some more in a small fleet. */
const MEAN_AGAIN = 0.05
const SOME = 6
/** However sick a fleet is, a call is handed out so often at most in this time. */
const MOST_AT_ONCE = 12
const WINDOW_MS = 5000

/** Faults of single calls: other calls are handed out as often as without them. */
const OF_CALLS: readonly FaultKind[] = ['removed job', 'cancel', 'agent refuses always', 'odd usage']

/** Woken once: a job is handed to a worker as often as its call starts, and hardly more often. No worker asks again and again for room. */
export function wokenOnce(history: History): Report[] {
  const handed = new Map<string, number[]>()
  for (const fact of history.facts) if (fact.fact === 'handed') note(handed, fact)
  const disturbances = history.faults.filter(({ fault }) => !OF_CALLS.includes(fault)).length
  const reports: Report[] = []
  let [ended, again] = [0, 0]
  for (const [call, times] of handed) {
    const story = history.stories.get(call)
    if (story === undefined) continue
    const more = Math.max(0, times.length - due(story))
    ended++
    again += more
    times.sort((a, b) => a - b)
    const atMs = times.find((ms, index) => (times[index + MOST_AT_ONCE] ?? Number.POSITIVE_INFINITY) - ms < WINDOW_MS)
    if (atMs !== undefined) {
      reports.push({ oracle: 'woken once', atMs, text: `${call} was handed to workers more than ${MOST_AT_ONCE} times in ${WINDOW_MS} ms`, calls: [call] })
    } else if (more > MOST_AGAIN + disturbances) {
      const text = `${call} was handed to workers ${times.length} times; ${due(story)} are due, and ${MOST_AGAIN + disturbances} more are allowed (${disturbances} disturbances)`
      reports.push({ oracle: 'woken once', atMs: times.at(-1) as number, text, calls: [call] })
    }
  }
  // An agent that refuses keeps calls coming back, others beside the one that it refused.
  const refuses = history.runs.some(({ ended: end }) => end?.how === 'sent back')
  if (disturbances === 0 && !refuses && again > SOME + MEAN_AGAIN * ended) {
    const text = `${ended} calls were handed to workers ${again} times more than they started; ${(SOME + MEAN_AGAIN * ended).toFixed(0)} are allowed`
    reports.push({ oracle: 'woken once', atMs: history.endMs, text, calls: [] })
  }
  return reports
}

function note(handed: Map<string, number[]>, { call, atMs }: HandedFact): void {
  const times = handed.get(call)
  if (times === undefined) handed.set(call, [atMs])
  else times.push(atMs)
}

/**
 * Once for each start, or to be refused. A job of a plain producer, and one that is tried again, meets the gate first, and may have to wait then. So may one
 * whose start is spaced: its worker holds it until then, others take the slots meanwhile.
 */
function due({ asked, runs }: Story): number {
  const again = runs.filter(({ ended }) => ended !== undefined && ended.how !== 'done').length
  return Math.max(1, runs.length) + again + (asked.door === 'plain job' || asked.spaced === true ? 1 : 0)
}
