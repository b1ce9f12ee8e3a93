import type { Report } from './facts.js'
import type { History, Story } from './history.js'

/** An agent that refuses a call is asked for it again so often at most, in this time, however soon it says that it may be asked. */
const MOST_REFUSALS = 12
const WINDOW_MS = 5000

/** No hot loop: a call that its agent refuses again and again is sent ever more rarely. */
export function hotLoops(history: History): Report[] {
  return [...history.stories.values()].flatMap((story) => {
    const atMs = firstTooMany(refusals(story))
    if (atMs === undefined) return []
    const text = `${story.id} was sent to its agent, and refused, more than ${MOST_REFUSALS} times in ${WINDOW_MS} ms`
    return [{ oracle: 'never stuck', atMs, text, calls: [story.id] }]
  })
}

function refusals({ runs }: Story): number[] {
  return runs.filter(({ ended }) => ended?.how === 'sent back').map(({ started }) => started.atMs)
}

function firstTooMany(timesMs: readonly number[]): number | undefined {
  return timesMs.find((atMs, index) => (timesMs[index + MOST_REFUSALS] ?? Number.POSITIVE_INFINITY) - atMs < WINDOW_MS)
}

/** An agent that refuses one call takes others: these go on, with at most so long between two of them. */
const LONGEST_GAP_MS = 4000

/** A call that its agent refuses always does not keep the other calls of that agent from starting. */
export function heldUpByRefused(history: History): Report[] {
  return history.faults.flatMap((fault): Report[] => {
    const { fault: kind, call = '', atMs } = fault
    const refused = history.stories.get(call)
    const agent = refused?.asked.scopes.agent
    if (kind !== 'agent refuses always' || refused === undefined || agent === undefined) return []
    // Where the agent refuses others, too, it is the agent that keeps them.
    const others = [...history.stories.values()].filter((story) => story !== refused && story.asked.scopes.agent === agent && story.asked.door === 'queue')
    if (others.some((story) => refusals(story).length > 0)) return []
    const timesMs = refusals(refused).filter((ms) => ms >= atMs)
    const [firstMs, lastMs] = [timesMs[0], timesMs.at(-1)]
    if (firstMs === undefined || lastMs === undefined) return []
    const starts = others.flatMap(({ runs }) => runs.map(({ started }) => started.atMs)).filter((ms) => ms > firstMs && ms < lastMs)
    const edges = [firstMs, ...starts.sort((a, b) => a - b), lastMs]
    const gap = edges.findIndex((ms, index) => ms - (edges[index - 1] ?? ms) > LONGEST_GAP_MS)
    if (gap < 0) return []
    const [fromMs, toMs] = [edges[gap - 1] as number, edges[gap] as number]
    const waiting = others.find(({ asked, runs }) => asked.atMs < fromMs && (runs[0]?.started.atMs ?? Number.POSITIVE_INFINITY) >= toMs)
    if (waiting === undefined) return []
    const text = `${waiting.id} waits, and no call of agent ${agent} starts for ${(toMs - fromMs).toFixed(0)} ms, while the agent refuses ${call} again and again`
    return [{ oracle: 'never stuck', atMs: fromMs, text, calls: [waiting.id, call] }]
  })
}
