import type { Bounds, FactLimit, FaultKind, Report } from './facts.js'
import { acceptedMs, deadlineMs, type History, type Run, type Story } from './history.js'
import { Sickness } from './sickness.js'

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

/** A call that its agent refuses always does not keep the other calls of that agent from starting, but once for its Retry-After. */
export function heldUpByRefused(history: History, bounds: Bounds): Report[] {
  const sickness = new Sickness(history, bounds)
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
    const longestGapMs = bounds.lateSickMs + Math.max(...refused.runs.map(({ ended }) => ended?.retryAfterMs ?? 0))
    const gap = edges.findIndex((ms, index) => ms - (edges[index - 1] ?? ms) > longestGapMs)
    if (gap < 0) return []
    const [fromMs, toMs] = [edges[gap - 1] as number, edges[gap] as number]
    // By a clock that was set back a block lasts longer.
    if (sickness.disturbance(fromMs, toMs) !== undefined) return []
    const waiting = others.find((story) => (acceptedMs(story) ?? toMs) < fromMs && goneMs(story) >= toMs)
    if (waiting === undefined) return []
    const text = `${waiting.id} waits, and no call of agent ${agent} starts for ${(toMs - fromMs).toFixed(0)} ms, while the agent refuses ${call} again and again`
    return [{ oracle: 'never stuck', atMs: fromMs, text, calls: [waiting.id, call] }]
  })
}

/** When a call waits no more: it starts, ends, gives up, or its job is removed. */
function goneMs(story: Story): number {
  const removed = story.faults.find(({ fault }) => fault === 'removed job')
  return Math.min(...[story.runs[0]?.started.atMs, story.results[0]?.atMs, removed?.atMs, deadlineMs(story)].filter((ms) => ms !== undefined))
}

/** What keeps calls from starting whatever their agents say. */
const KEEPS_ALL: readonly FaultKind[] = ['paused queue', 'workerless queue', 'pause', 'override', 'rule change', 'redis clock', 'odd usage', 'removed job']

/**
 * An agent that has refused is asked again: at the latest `lateSickMs` after its Retry-After some call to it starts, where one waits all the time and
 * nothing else keeps it. Judged where the rates of its rules have room by then, and where no run holds a worker or a slot.
 */
export function leftAloneForGood(history: History, bounds: Bounds): Report[] {
  const sickness = new Sickness(history, bounds)
  if (history.faults.some(({ fault }) => KEEPS_ALL.includes(fault))) return []
  const reported = new Set<string>()
  return history.runs.flatMap((run): Report[] => {
    const { ended, story } = run
    const { agent } = story.asked.scopes
    if (ended?.how !== 'sent back' || agent === undefined || reported.has(agent)) return []
    const fromMs = ended.atMs
    const toMs = fromMs + (ended.retryAfterMs ?? 0) + bounds.lateSickMs
    if (toMs > history.endMs || sickness.disturbance(fromMs, toMs) !== undefined) return []
    const isRunning = ({ started, ended: end, diedMs }: Run) => started.atMs <= toMs && (end?.atMs ?? diedMs ?? Number.POSITIVE_INFINITY) > fromMs
    const waiting = [...history.stories.values()].find((other) => waitsThroughout(history, other, agent, fromMs, toMs))
    if (waiting === undefined || history.runs.some((other) => other !== run && isRunning(other))) return []
    reported.add(agent)
    const text = `${waiting.id} waits, and no call starts for ${(toMs - fromMs).toFixed(0)} ms after agent ${agent} refused ${story.id} with a Retry-After of ${ended.retryAfterMs ?? 0} ms`
    return [{ oracle: 'never stuck', atMs: fromMs, text, calls: [waiting.id, story.id] }]
  })
}

function waitsThroughout(history: History, story: Story, agent: string, fromMs: number, toMs: number): boolean {
  const { asked, results } = story
  if (asked.scopes.agent !== agent || asked.door !== 'queue' || !asked.waits) return false
  if ((acceptedMs(story) ?? Number.POSITIVE_INFINITY) > fromMs) return false
  if ((results[0]?.atMs ?? Number.POSITIVE_INFINITY) <= toMs || (deadlineMs(story) ?? Number.POSITIVE_INFINITY) <= toMs) return false
  if (asked.maxWaitMs !== undefined || story.faults.length > 0) return false
  const met = history.metersDuring(asked.scopes, fromMs, toMs).flat()
  return met.every(({ limit }) => hasRoomWithin(limit, asked.costs, toMs - fromMs))
}

/** Whether a bucket has room for the cost after this time, however empty it was. */
function hasRoomWithin({ form, unit, mode }: FactLimit, costs: Story['asked']['costs'], ms: number): boolean {
  if (mode !== undefined) return false
  if (form.kind === 'slots') return true
  return form.kind === 'bucket' && unit !== undefined && (costs[unit] ?? 0) * 2000 < form.perSecond * ms
}
