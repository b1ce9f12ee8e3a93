import type { Bounds, FaultKind, Report, ResultFact } from './facts.js'
import { acceptedMs, chargeMs, deadlineMs, faultDuring, type History, type Story } from './history.js'

/** Changes for which a call that was accepted may be refused when it is looked at again. */
const CHANGES_RULES: readonly FaultKind[] = ['rule change', 'override', 'pause']
const REFUSES: readonly FaultKind[] = ['agent refuses once', 'agent refuses for a while', 'agent refuses always']
/** For what an app cancels a call, or an operator takes it away. */
const GIVES_UP: readonly FaultKind[] = ['cancel', 'removed job', 'agent refuses always']
/** A call that its agent has sent back so often fails the next time. */
const MOST_RETURNS = 10
/** Faults for which a deadline is another time, or is forgotten with the record of a call. */
const MOVES_DEADLINES: readonly FaultKind[] = ['redis clock', 'node clock', 'failover']
/** A call that lost so many workers is failed as the probable cause. */
const LOST_AT_MOST = 10

/** Nothing lost: each call that was accepted ends, in a way that the facts explain, and a call that was refused never runs. */
export function nothingLost(history: History, bounds: Bounds): Report[] {
  const reports: Report[] = history.strays.map(({ atMs, call }) => ({
    oracle: 'nothing lost',
    atMs,
    text: `${call} ran, and no app has asked for it`,
    calls: [call],
  }))
  for (const story of history.stories.values()) {
    const text = story.asked.door === 'queue' || story.asked.door === 'plain job' ? faultOfJob(history, story, bounds) : faultOfGrant(history, story)
    if (text !== undefined) reports.push({ oracle: 'nothing lost', atMs: story.asked.atMs, text: `${story.id} ${text}`, calls: [story.id] })
    const late = startedTooLate(history, story, bounds)
    if (late !== undefined) reports.push({ oracle: 'nothing lost', ...late, calls: [story.id] })
  }
  return reports
}

/** Without the queue the answer is the start. */
function faultOfGrant(history: History, { asked, answered, runs }: Story): string | undefined {
  if (history.diedMs(asked.by) < Number.POSITIVE_INFINITY || answered?.outcome === 'unknown') return undefined
  if (answered === undefined) return `was asked for at the door ${asked.door} and never answered`
  if (answered.outcome === 'refused') return runs.length > 0 ? 'was refused, and ran' : undefined
  return runs.length === 0 ? `was answered ${answered.outcome}, and never started` : undefined
}

function faultOfJob(history: History, story: Story, bounds: Bounds): string | undefined {
  const { asked, answered, runs, results } = story
  const appDied = history.diedMs(asked.by) < Number.POSITIVE_INFINITY
  if (answered?.outcome === 'unknown') return undefined
  if (answered?.outcome === 'joined') return faultOfJoined(history, story, bounds)
  if (answered?.outcome === 'refused') return runs.length > 0 ? `was refused (${answered.code ?? 'no code'}), and ran` : undefined
  if (acceptedMs(story) === undefined) return appDied ? undefined : 'was asked for by an app that lives, and never answered'
  const [result] = results
  if (result !== undefined) return unexplained(history, story, result, bounds)
  if (isForgotten(history, story, bounds) || story.faults.some(({ fault }) => fault === 'removed job')) return undefined
  if (runs.some(({ ended }) => ended?.how === 'done')) return undefined
  if (!appDied) return 'was accepted, and has neither a result nor a run that is done'
  // The app that would be told is dead: what is left is that the call ran, as far as it may.
  const mayEndUnseen = deadlineMs(story) < Number.POSITIVE_INFINITY || !asked.waits || story.faults.length > 0 || runs.some(({ ended }) => ended !== undefined)
  if (mayEndUnseen || faultDuring(history, CHANGES_RULES, undefined, asked.atMs, history.endMs) !== undefined) return undefined
  return 'was accepted before its app died, and no run of it has ended'
}

/** A ticket that stands for a call which was there before is told how that one ended. */
function faultOfJoined(history: History, story: Story, bounds: Bounds): string | undefined {
  const { asked, results, faults } = story
  if (results.length > 0 || history.diedMs(asked.by) < Number.POSITIVE_INFINITY) return undefined
  // Which call it stands for facts do not tell; that one may have been forgotten, or taken away.
  if (isForgotten(history, story, bounds) || faults.some(({ fault }) => fault === 'removed job')) return undefined
  if (faultDuring(history, ['failover'], undefined, asked.atMs - bounds.leaseMs, history.endMs) !== undefined) return undefined
  return 'stands for a call that was asked for before, and has no result'
}

/** Whether Redis forgot that it took the call in. */
function isForgotten(history: History, story: Story, { stepMs }: Bounds): boolean {
  const knownMs = acceptedMs(story) ?? story.asked.atMs
  return history.faults.some(
    ({ fault, atMs, untilMs, lostFromMs = Number.NEGATIVE_INFINITY }) =>
      fault === 'failover' && knownMs >= lostFromMs - stepMs && story.asked.atMs <= Math.max(atMs, untilMs) + stepMs,
  )
}

/** What is wrong with the way in which a call ended, if the facts do not explain it. */
function unexplained(history: History, story: Story, { atMs, how, code }: ResultFact, bounds: Bounds): string | undefined {
  const { asked, runs, faults } = story
  switch (how) {
    case 'done':
      // BullMQ numbers the jobs of a plain producer: the id of one that Redis forgot is given to another.
      if (asked.door === 'plain job' && isForgotten(history, story, bounds)) return undefined
      return runs.some(({ ended }) => ended?.how === 'done') ? undefined : 'has the result done, and no run of it is done'
    case 'expired':
      if (deadlineMs(story) === Number.POSITIVE_INFINITY) return 'is told to be expired, and had no deadline'
      return atMs < deadlineMs(story) - bounds.stepMs && faultDuring(history, ['redis clock'], undefined, asked.atMs, atMs) === undefined
        ? `is told to be expired ${(deadlineMs(story) - atMs).toFixed(0)} ms before its deadline`
        : undefined
    case 'cancelled':
      // To a plain producer a job that Redis forgot is as gone as one that was cancelled.
      if (asked.door === 'plain job' && isForgotten(history, story, bounds)) return undefined
      return faults.some(({ fault }) => GIVES_UP.includes(fault)) || wasJoined(history, asked.atMs, atMs)
        ? undefined
        : 'is told to be cancelled, and no app has cancelled it'
    case 'failed':
      return hasReason(history, story, atMs, code, bounds) ? undefined : `is told to have failed (${code ?? 'no code'}), and no run of it has failed`
    default:
      return how satisfies never
  }
}

/** Whether a call was given up that stands for another one: facts do not tell for which. */
function wasJoined({ stories }: History, fromMs: number, toMs: number): boolean {
  for (const { answered, faults } of stories.values()) {
    if (answered?.outcome === 'joined' && faults.some(({ fault, atMs }) => GIVES_UP.includes(fault) && atMs >= fromMs && atMs <= toMs)) return true
  }
  return false
}

function hasReason(history: History, story: Story, resultMs: number, code: string | undefined, bounds: Bounds): boolean {
  const { asked, runs, faults } = story
  if (runs.some(({ ended }) => ended?.how === 'failed')) return true
  if (faults.some(({ fault }) => fault === 'removed job' || fault === 'cancel')) return true
  if (runs.filter(({ ended }) => ended?.how === 'sent back').length > MOST_RETURNS && (code === undefined || code === 'UPSTREAM_REFUSED')) return true
  if (isForgotten(history, story, bounds) || faultDuring(history, ['failover'], undefined, asked.atMs, resultMs) !== undefined) return true
  if (runs.filter(({ diedMs }) => diedMs !== undefined).length > LOST_AT_MOST) return true
  // A strategy that does not wait refuses the call in its worker, too.
  if (!asked.waits || asked.spaced === true) return true
  if (code === 'DEADLINE_MISSED' && deadlineMs(story) < Number.POSITIVE_INFINITY) return true
  // The queue of a plain producer tells no code: its line may have been full, or the longest wait over.
  if (asked.door === 'plain job' && (code === 'LINE_FULL' || (code === undefined && deadlineMs(story) < Number.POSITIVE_INFINITY))) return true
  return faultDuring(history, [...CHANGES_RULES, ...REFUSES], undefined, asked.atMs - bounds.changeMs, resultMs) !== undefined
}

/** For these a worker may lose a job that it has: its lock ends meanwhile. */
const LOSES_LOCKS: readonly FaultKind[] = ['stop', 'slow network', 'failover', 'redis away', 'redis refuses writes', 'redis clock']

/** When a call starts no more at the latest: its longest wait begins before it is answered. A call that comes back waits anew. */
function latestStartMs(history: History, { asked, answered, handed }: Story, isFirst: boolean): number {
  const deadline = asked.deadlineMs ?? Number.POSITIVE_INFINITY
  if (!isFirst || asked.ownMaxWaitMs === undefined || answered === undefined) return deadline
  let fromMs = answered.atMs
  for (const [index, { atMs, to }] of handed.entries()) {
    const next = handed[index + 1]
    if (next !== undefined && faultDuring(history, LOSES_LOCKS, to, atMs, next.atMs) !== undefined) fromMs = next.atMs
  }
  return Math.min(deadline, fromMs + asked.ownMaxWaitMs)
}

/** No start after the deadline, by the clock that decides: the charge. */
function startedTooLate(history: History, story: Story, bounds: Bounds): { atMs: number; text: string } | undefined {
  if (story.asked.door !== 'queue') return undefined
  for (const [index, run] of story.runs.entries()) {
    const latestMs = latestStartMs(history, story, index === 0)
    const startMs = run.chargedMs === undefined ? run.started.atMs - bounds.stepMs : chargeMs(run)
    if (startMs <= latestMs + 1 || faultDuring(history, MOVES_DEADLINES, undefined, story.asked.atMs, run.started.atMs) !== undefined) continue
    return { atMs: run.started.atMs, text: `${story.id} was charged ${(startMs - latestMs).toFixed(0)} ms after its deadline; it had to expire` }
  }
  return undefined
}
