import type { LineSeen } from '../history/seen.js'
import { HEALTH_REASONS, type HealthReason, type HealthState } from '../model/health-reason.js'
import { SECOND } from '../model/time.js'
import { type Cause, callsIn, causeOfLine, counted, shortened } from './causes.js'
import type { HealthFacts, QueueFacts } from './facts.js'
import type { Health, HealthFigures } from './health.js'

/** What the dispatcher saw of the lines is believed for so long: five looks. */
const STALE_MS = 10 * SECOND
/** A dispatcher, or a worker, that is replaced leaves a gap: it counts as missing after this. */
const GAP_MS = 4 * SECOND
/** How long a call may wait for a place among busy workers. */
const BUSY_MS = 10 * SECOND
const ALSO_AT_MOST = 7
/** How exactly it is known since when a line stands. */
const LOOK_MS = 3 * SECOND

/**
 * The verdict. It is a function of the facts alone: each cause that holds is named, and the first in the order of `HEALTH_REASONS` is the verdict, the
 * others stand beside it.
 *
 * A tenant that waits at its own limit is the gate at work: work flows. Slowed means that calls wait for what all share, or that a budget is spent, and
 * that they have done so for some seconds: bursts come and go.
 */
export function judge(facts: HealthFacts): Health {
  const causes = causesOf(facts).sort((one, other) => weight(one.reason) - weight(other.reason) || other.calls - one.calls)
  const [first, ...others] = causes
  const cause = first ?? calm(facts)
  const also = others.slice(0, ALSO_AT_MOST).map(({ reason, sentence, sinceMs }) => ({ reason, sentence, sinceMs }))
  return verdict(cause, stateOf(cause, facts), {
    also,
    figures: figuresOf(facts),
    asOfMs: cause.reason === 'STALE' ? (cause.sinceMs ?? facts.nowMs) : facts.nowMs,
  })
}

/** @param sinceMs since when Redis is away, by the clock of this machine; null where that is not known */
export function redisAway(nowMs: number, sinceMs: number | null): Health {
  const cause: Cause = {
    reason: 'REDIS_AWAY',
    sinceMs,
    calls: 0,
    sentence: 'Redis does not answer; no queued call starts.',
    whom: 'Every queued call; calls at the gate are decided on as onStoreError says.',
    why: 'This process cannot reach Redis, or Redis does not answer in time.',
    command: 'redis-cli -u "$REDIS_URL" ping',
    of: {},
  }
  return verdict(cause, 'stopped', { also: [], figures: NO_FIGURES, asOfMs: nowMs })
}

/** The verdict while nothing is known: Redis does not answer, or no figures come. */
export function unknownHealth(why: string, nowMs: number): Health {
  const cause: Cause = {
    reason: 'STALE',
    sinceMs: null,
    calls: 0,
    sentence: 'How work flows is not known.',
    whom: '',
    why,
    todo: 'Check that Redis runs and that this server reaches it.',
    command: 'tollgate doctor',
    of: {},
  }
  return verdict(cause, 'unknown', { also: [], figures: NO_FIGURES, asOfMs: nowMs })
}

const NO_FIGURES: HealthFigures = {
  waiting: null,
  oldestMs: null,
  running: null,
  places: null,
  workers: null,
  dispatched: null,
  arrivingPerSecond: null,
  startingPerSecond: null,
}

function verdict(
  { reason, sinceMs, sentence, whom, why, command, of, todo }: Cause,
  state: HealthState,
  rest: Pick<Health, 'also' | 'figures' | 'asOfMs'>,
): Health {
  const about = { rule: null, limit: null, scopeValue: null, agent: null, queue: null, call: null, org: null, ...of }
  return { state, reason, sinceMs, sentence, whom, why, next: { text: todo ?? HEALTH_REASONS[reason].todo, command }, of: about, ...rest }
}

const ORDER = Object.keys(HEALTH_REASONS)

function weight(reason: HealthReason): number {
  return ORDER.indexOf(reason)
}

/** What stands still for as long as nothing has started since; of rates and slots the next start is a matter of time. */
const STOPS: ReadonlySet<HealthReason> = new Set(['PAUSED', 'UPSTREAM', 'BUDGET'])

function stateOf({ reason, sinceMs, calls }: Cause, { lastStartMs, nowMs, seen }: HealthFacts): HealthState {
  const { state } = HEALTH_REASONS[reason]
  if (!STOPS.has(reason) || sinceMs === null || calls === 0 || calls < (seen?.waiting ?? 0)) return state
  // The last start may have been what the agent refused.
  return nowMs - sinceMs >= GAP_MS && (lastStartMs ?? 0) < sinceMs + LOOK_MS && nowMs - (lastStartMs ?? 0) >= GAP_MS ? 'stopped' : state
}

function calm({ hadCalls, lineCount }: HealthFacts): Cause {
  const reason = hadCalls || lineCount > 0 ? 'FLOWING' : 'EMPTY'
  const sentence = reason === 'EMPTY' ? 'No call has come yet.' : 'Work flows: no call waits for longer than it should.'
  const command = reason === 'EMPTY' ? `tollgate enqueue '{"agent":"openai","payload":{}}'` : ''
  return { reason, sinceMs: null, calls: 0, sentence, whom: '', why: HEALTH_REASONS[reason].what, command, of: {} }
}

function causesOf(facts: HealthFacts): Cause[] {
  const { seen, nowMs, dispatched, lineCount } = facts
  const unworked = workerCauses(facts)
  // A dispatcher that has just begun has not looked yet.
  if (dispatched && isOld(facts) && (seen !== null || lineCount > 0)) return [staleFigures(facts), ...unworked]
  const lines = isOld(facts) ? [] : (seen?.lines ?? [])
  const ofLines = lines.flatMap((line) => causeOfLine(line, facts) ?? [])
  const others = otherCauses(facts).filter(
    (one) => one.reason !== 'BUDGET' || !ofLines.some(({ reason, of }) => reason === 'BUDGET' && of.rule === one.of.rule),
  )
  const causes = [...unworked, ...ofLines, ...others]
  // Without any worker that is what is missing: one brings a dispatcher.
  const isAlone = facts.workers.every(({ untilMs }) => untilMs <= nowMs)
  const isUndispatched = !dispatched && !isAlone && lineCount > 0 && (seen === null || nowMs - seen.atMs > GAP_MS)
  return merged(isUndispatched ? [undispatched(facts), ...causes] : causes)
}

/** Lines that wait for the same are one cause: that of the one with most calls, with the calls of all. */
function merged(causes: readonly Cause[]): Cause[] {
  const byName = new Map<string, Cause>()
  for (const cause of causes) {
    const { rule, agent, scopeValue, queue, call } = cause.of
    const what = cause.reason === 'UPSTREAM' ? [agent] : cause.reason === 'OWN_LIMIT' ? [rule] : [rule, scopeValue, queue, call]
    const name = [cause.reason, ...what].join(' ')
    const known = byName.get(name)
    if (known === undefined) byName.set(name, cause)
    else {
      const [more, less] = known.calls >= cause.calls ? [known, cause] : [cause, known]
      byName.set(name, { ...more, calls: more.calls + less.calls, sinceMs: earliest(more.sinceMs, less.sinceMs) })
    }
  }
  return [...byName.values()]
}

function earliest(one: number | null, other: number | null): number | null {
  return one === null ? other : other === null ? one : Math.min(one, other)
}

function staleFigures({ seen }: HealthFacts): Cause {
  return {
    reason: 'STALE',
    sinceMs: seen?.atMs ?? null,
    calls: 0,
    sentence: 'The last figures are old; what happens now is unknown.',
    whom: 'Unknown.',
    why: 'A process holds the lease to dispatch, and has written no figures for more than 10 seconds.',
    command: 'tollgate health',
    of: {},
  }
}

function undispatched({ seen, lineCount, callsInLines: waiting }: HealthFacts): Cause {
  return {
    reason: 'NO_DISPATCHER',
    sinceMs: seen?.atMs ?? null,
    calls: waiting,
    sentence: 'No process dispatches: waiting calls are not woken.',
    whom: `${counted(waiting, 'waiting call')} in ${counted(lineCount, 'line')}.`,
    why: 'No worker or server of the namespace holds the lease to dispatch.',
    command: 'tollgate worker',
    of: {},
  }
}

/** Queues with calls and without a worker, or that are paused. */
function workerCauses(facts: HealthFacts): Cause[] {
  const { workers, nowMs } = facts
  const live = workers.filter(({ untilMs, queue }) => untilMs > nowMs && !isHeld(queue))
  return facts.queues.flatMap((queue, place): Cause[] => {
    const lines = linesOfQueue(facts, queue.name)
    // Where nothing is known of the lines, they are taken for those of this process' own queue.
    const calls = queue.waiting + (place === 0 && isOld(facts) ? facts.callsInLines : callsIn(lines))
    if (calls === 0) return []
    const of = { queue: queue.name }
    if (queue.paused) {
      const sentence = `Queue ${shortened(queue.name)} is paused in BullMQ.`
      const why = 'Somebody paused the BullMQ queue; its jobs are not given to workers.'
      return [
        { reason: 'QUEUE_PAUSED', sinceMs: firstOf(queue, lines), calls, sentence, whom: `${counted(calls, 'call')} of this queue.`, why, command: '', of },
      ]
    }
    if (live.some((worker) => worker.queue === queue.name)) return busy(queue, facts)
    const reports = workers.filter((worker) => worker.queue === queue.name)
    // Workers that report no places take jobs all the same.
    if (reports.length === 0 && queue.active > 0) return []
    const leftMs = reports.length === 0 ? null : Math.max(...reports.map(({ untilMs }) => untilMs))
    const sinceMs = leftMs ?? firstOf(queue, lines)
    if (sinceMs !== null && nowMs - sinceMs < GAP_MS) return []
    const reason = live.length === 0 ? ('NO_WORKER' as const) : ('QUEUE_UNWORKED' as const)
    const sentence =
      reason === 'NO_WORKER' ? `No worker lives: ${counted(calls, 'call')} cannot start.` : `No worker takes the calls of queue ${shortened(queue.name)}.`
    const why = `No worker of queue ${shortened(queue.name)} has given a sign of life${leftMs === null ? '' : ' since its last one ended'}.`
    return [
      {
        reason,
        sinceMs,
        calls,
        sentence,
        whom: `${counted(calls, 'call')} of queue ${shortened(queue.name)}.`,
        why,
        command: `tollgate worker --queue ${queue.name}`,
        of,
      },
    ]
  })
}

function busy(queue: QueueFacts, { workers, nowMs }: HealthFacts): Cause[] {
  const live = workers.filter((worker) => worker.queue === queue.name && worker.untilMs > nowMs)
  if (queue.waiting === 0 || queue.oldestMs === null || nowMs - queue.oldestMs < BUSY_MS || live.some(({ running, places }) => running < places)) return []
  return [
    {
      reason: 'WORKERS_BUSY',
      sinceMs: queue.oldestMs,
      calls: queue.waiting,
      sentence: `All workers of queue ${shortened(queue.name)} are busy.`,
      whom: `${counted(queue.waiting, 'call')} that have room in their limits.`,
      why: `${counted(live.length, 'worker')} with ${counted(
        live.reduce((sum, { places }) => sum + places, 0),
        'place',
      )}, and all of them are taken.`,
      command: `tollgate worker --queue ${queue.name}`,
      of: { queue: queue.name },
    },
  ]
}

/** What no line shows. */
function otherCauses({ troubled, refusedBudgets }: HealthFacts): Cause[] {
  const failing = troubled.map(
    ({ call, times, atMs, agent, org }): Cause => ({
      reason: 'CALL_FAILS',
      sinceMs: atMs,
      calls: 1,
      sentence: `Call ${shortened(call)} fails again and again.`,
      whom: org === undefined ? 'That call, and the places that it takes.' : `A call of ${org}, and the places that it takes.`,
      why: `It has failed ${times} times at ${agent}.`,
      command: `tollgate explain ${call}`,
      of: { call, agent, org: org ?? null },
    }),
  )
  const spent = refusedBudgets.map(
    ({ rule, limit, calls, sinceMs }): Cause => ({
      reason: 'BUDGET',
      sinceMs,
      calls,
      sentence: `The budget ${limit} of rule ${rule} is spent.`,
      whom: `${counted(calls, 'call')} refused in the last minutes.`,
      why: `${rule}/${limit} has no room, and its rule refuses calls instead of having them wait.`,
      command: `tollgate stats ${rule}`,
      of: { rule, limit },
    }),
  )
  return [...failing, ...spent]
}

export function isHeld(queue: string): boolean {
  return /^held-[0-9a-f]{12}$/.test(queue)
}

/** Whether the last look of the dispatcher is too old to be believed. */
export function isOld({ seen, nowMs }: Pick<HealthFacts, 'seen' | 'nowMs'>): boolean {
  return seen === null || nowMs - seen.atMs > STALE_MS
}

function linesOfQueue(facts: HealthFacts, queue: string): LineSeen[] {
  return isOld(facts) ? [] : (facts.seen?.lines ?? []).filter((line) => line.queue === queue)
}

function firstOf({ oldestMs }: QueueFacts, lines: readonly LineSeen[]): number | null {
  return lines.reduce((first, { sinceMs }) => earliest(first, sinceMs), oldestMs)
}

function figuresOf({ seen, workers, nowMs, dispatched, queues, arrivingPerSecond, startingPerSecond }: HealthFacts): HealthFigures {
  const live = workers.filter(({ untilMs }) => untilMs > nowMs)
  const known = isOld({ seen, nowMs }) ? null : seen
  const ages = (known?.lines ?? []).flatMap(({ oldestMs }) => (oldestMs === null ? [] : [oldestMs]))
  return {
    waiting: known?.waiting ?? null,
    oldestMs: ages.length === 0 ? null : Math.max(...ages),
    running: queues.reduce((sum, { active }) => sum + active, 0),
    places: live.filter(({ queue }) => !isHeld(queue)).reduce((sum, { places }) => sum + places, 0),
    workers: live.length,
    dispatched,
    arrivingPerSecond,
    startingPerSecond,
  }
}
