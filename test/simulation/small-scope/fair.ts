import { actionsOf } from './actions/index.js'
import { passTime } from './actions/time.js'
import type { Agent } from './agent.js'
import { checkQuiet, scoreMs } from './checks.js'
import { idealStarts, isHealthy } from './ideal.js'
import type { Model } from './model.js'
import type { Action, Setting } from './setting.js'
import { errorText, fairFingerprint, modelOf, perform, type State } from './state.js'

/** How late a call may start whose own app or worker was sick. */
const LATE_SICK_MS = 15_000
/** After so long nothing can be left to happen: the longest that BullMQ delays the job of a call whose wait is not known, and all that comes after. */
const LONGEST_MS = 1_200_000

/** A completion of more steps goes round in circles. */
const MOST_STEPS = 3000
/** How long the dispatcher rests at least before it looks again. */
const REST_MS = 10

type Starts = readonly number[]

/**
 * From a state on nothing fails any more, and every process does at once what it has to do. So everything comes to an end, within a bound, and nothing
 * is left of it.
 */
export class FairCompletion {
  completions = 0
  /** By states that were met: when each call starts the last time on the way from there; -1: not any more. */
  private readonly met = new Map<string, Starts>()

  constructor(
    private readonly setting: Setting,
    private readonly agent: Agent,
  ) {}

  /** @param tell hears of each step @returns what the checks found */
  async complete(from: State, tell?: (name: string, state: State) => Promise<void>): Promise<string[]> {
    const first = modelOf(from)
    const reports: string[] = []
    const passed: { print: string; starts: Starts }[] = []
    const been = new Set<string>()
    let state = from
    let starts: Starts = first.calls.map(() => -1)
    for (;;) {
      const print = fairFingerprint(state)
      const known = this.met.get(print)
      if (known !== undefined && tell === undefined) {
        starts = latest(starts, known)
        break
      }
      const wasHere = been.has(print)
      been.add(print)
      passed.push({ print, starts })
      const before = modelOf(state)
      if (before.atMs > first.atMs + LONGEST_MS || passed.length > MOST_STEPS) {
        reports.push('stuck: no end')
        break
      }
      const action = wasHere ? this.pass(before.atMs + REST_MS) : await this.next(state, before)
      if (action === 'end') {
        this.completions++
        reports.push(...(await this.checkQuiet(state)))
        break
      }
      const { after, reports: found } = await perform(this.setting, action, state)
      reports.push(...found)
      await tell?.(action.name, after)
      starts = latest(starts, startedNow(before, modelOf(after)))
      state = after
    }
    for (const { print, starts: until } of passed) this.met.set(print, since(starts, until))
    return [...reports, ...this.late(first, starts)]
  }

  private async checkQuiet(state: State): Promise<string[]> {
    try {
      return await checkQuiet(this.setting, this.agent, state)
    } catch (error) {
      return [errorText(error)]
    }
  }

  private late(model: Model, starts: Starts): string[] {
    const ideal = idealStarts(this.setting, this.agent, model)
    // Calls may start in another order than in the ideal one; all together they may not take longer.
    const last = Math.max(...ideal.map((atMs, call) => (atMs !== undefined && isHealthy(model, call) ? atMs : Number.NEGATIVE_INFINITY)))
    return starts.flatMap((atMs, call) => {
      const healthy = isHealthy(model, call)
      const idealMs = ideal[call]
      if (idealMs === undefined || atMs < 0) return []
      const lateMs = atMs - (healthy ? last : idealMs)
      if (lateMs <= (healthy ? this.setting.scope.lateMs : LATE_SICK_MS)) return []
      const time = lateMs < 10_000 ? `${Math.ceil(lateMs / 1000)} s` : lateMs < 60_000 ? 'up to a minute' : 'minutes'
      return [healthy ? `stuck: calls that have room start ${time} late` : `stuck: a call whose own app or worker was sick starts ${time} late`]
    })
  }

  /** The first step that changes something; where there is none, the time until there may be one. */
  private async next(state: State, model: Model): Promise<Action | 'end'> {
    const steps = actionsOf(this.setting, this.agent, model).filter(({ kind }) => kind === 'step')
    const work = steps.find(({ name }) => name !== 'look')
    if (work !== undefined) return work
    const [look] = steps
    this.setting.at(state.redis, model.atMs)
    const { lines, passes, deadlines } = this.setting.keys
    const firsts = await Promise.all([lines, passes, deadlines].map((key) => this.setting.states.read('ZRANGE', key, 0, 0, 'WITHSCORES')))
    const due = firsts.flatMap(scoreMs)
    const isDue = due.some((atMs) => atMs <= model.atMs)
    if (look !== undefined && (isDue || model.scansAll)) return look
    const later = [...due, ...timesOf(model)].filter((atMs) => atMs > model.atMs)
    if (later.length > 0) return this.pass(Math.min(...later))
    return 'end'
  }

  private pass(untilMs: number): Action {
    return { name: `until ${Math.round(untilMs)}`, kind: 'time', run: (next) => passTime(this.setting, this.agent, next, untilMs) }
  }
}

/** When something in the model happens by itself, or may be done. */
function timesOf({ jobs, workers, dispatcher, deadSlots, runs, scanAgainAtMs }: Model): number[] {
  return [
    ...jobs.flatMap((job) => (job.state === 'delayed' ? [job.untilMs] : job.state === 'active' && job.lockEndsMs !== undefined ? [job.lockEndsMs] : [])),
    ...workers.flatMap(({ dueMs }) => (dueMs === undefined ? [] : [dueMs])),
    ...(dispatcher.phase === 'idle' && dispatcher.dueMs !== undefined ? [dispatcher.dueMs] : []),
    ...deadSlots.map(({ untilMs }) => untilMs),
    ...runs.map(({ leaseEndsMs }) => leaseEndsMs),
    scanAgainAtMs,
  ]
}

function startedNow(before: Model, after: Model): Starts {
  return after.calls.map(({ starts }, call) => (starts > (before.calls[call]?.starts ?? 0) ? after.atMs : -1))
}

function latest(one: Starts, other: Starts): Starts {
  return one.map((atMs, call) => Math.max(atMs, other[call] ?? -1))
}

/** The starts of a whole way that come after a part of it. */
function since(whole: Starts, part: Starts): Starts {
  return whole.map((atMs, call) => (atMs > (part[call] ?? -1) ? atMs : -1))
}
