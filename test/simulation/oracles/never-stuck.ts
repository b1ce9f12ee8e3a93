import { costIn, countsMode } from './coverage.js'
import type { Bounds, FaultFact, Report } from './facts.js'
import { acceptedMs, chargeMs, deadlineMs, goesOnUntilMs, type History, type Run, type Story } from './history.js'
import { IdealLine, KEPT_AHEAD_MS, type Waiting, type WaitingCosts, type WaitingGroup } from './ideal-line.js'
import { firstRefusals } from './in-order.js'
import { type LineMeter, LineMeters } from './line-meters.js'
import { Sickness, STOPS_ALL } from './sickness.js'
import { settledByMs } from './starts.js'
import { WorkersNow } from './workers-now.js'

/** Events of one time happen in this order: room comes back, limits change, calls come, calls start. */
type Order = 0 | 1 | 2 | 3
interface Event {
  readonly atMs: number
  readonly order: Order
  readonly act: () => void
}

/** A waiter of `acquire` looks for a slot four times a second. */
const RECHECK_MS = 300
/** Two looks are at least this far apart, so that rounding never keeps them at one time. */
const SMALLEST_STEP_MS = 0.01

/** Never stuck: a call that has room, is first, and finds a worker starts soon, and room does not flow over while calls wait for it. */
export function neverStuck(history: History, bounds: Bounds): Report[] {
  return new NeverStuck(history, bounds).run()
}

class NeverStuck {
  private readonly reports = new Map<Story, Report & { readonly lateMs: number }>()
  private readonly meters = new LineMeters()
  private readonly line: IdealLine
  private readonly sickness: Sickness
  private readonly workers: WorkersNow
  private readonly refusedMs: ReadonlyMap<string, number>
  private readonly pauses: readonly FaultFact[]
  private readonly events: Event[] = []
  private stoppedUntilMs = Number.NEGATIVE_INFINITY
  private backlog = new Map<LineMeter, WaitingCosts>()

  constructor(
    private readonly history: History,
    private readonly bounds: Bounds,
  ) {
    this.workers = new WorkersNow(history)
    this.sickness = new Sickness(history, bounds)
    this.refusedMs = firstRefusals(history)
    this.pauses = history.faults.filter(({ fault, scopes }) => fault === 'pause' && scopes !== undefined)
    const surroundings = {
      hindrance: (group: WaitingGroup, atMs: number) => this.hindrance(group, atMs),
      freePlaces: (queue: string, atMs: number) => this.workers.free(queue, atMs),
    }
    this.line = new IdealLine(history, this.meters, surroundings, bounds)
  }

  run(): Report[] {
    this.plan()
    this.events.sort((a, b) => a.atMs - b.atMs || a.order - b.order)
    let lastMs = this.events[0]?.atMs ?? 0
    let nextMs = Number.POSITIVE_INFINITY
    for (let index = 0; ; ) {
      const atMs = Math.min(this.events[index]?.atMs ?? Number.POSITIVE_INFINITY, nextMs)
      if (atMs > this.history.endMs) break
      for (const [meter, costs] of this.backlog) if (meter.form !== null && atMs > lastMs) meter.lost.add(meter.form, meter.limit, lastMs, atMs, costs)
      for (; index < this.events.length && (this.events[index] as Event).atMs <= atMs; index++) this.events[index]?.act()
      nextMs = Math.max(this.look(atMs), atMs + SMALLEST_STEP_MS)
      lastMs = atMs
    }
    for (const waiting of this.line.due) this.settle(waiting, this.history.endMs)
    return [...this.reports.values(), ...this.lostRoom()]
  }

  private at(atMs: number, order: Order, act: () => void): void {
    if (Number.isFinite(atMs)) this.events.push({ atMs, order, act })
  }

  private plan(): void {
    const { history } = this
    for (const story of history.stories.values()) this.planWait(story)
    for (const run of history.runs) this.planRun(run)
    this.workers.ready()
    for (const version of history.versions) {
      this.at(version.atMs, 1, () => {
        this.meters.adopt(version)
        this.line.resolveAll(version.atMs)
        if (version !== history.versions[0]) this.stoppedUntilMs = Math.max(this.stoppedUntilMs, version.atMs + this.bounds.changeMs)
      })
    }
    for (const fault of history.faults) this.planFault(fault)
    for (const atMs of this.workers.times()) this.at(atMs, 1, () => {})
  }

  /** From when to when a call waits, if it does. */
  private planWait(story: Story): void {
    const { asked, answered, runs, results, faults } = story
    const fromMs = asked.door === 'acquire' ? asked.atMs : acceptedMs(story)
    if (fromMs === undefined || asked.door === 'gate' || asked.door === 'limiter' || asked.door === 'record' || answered?.outcome === 'degrade') return
    const gone = [runs[0] && chargeMs(runs[0]), results[0]?.atMs, deadlineMs(story)]
    if (asked.door === 'acquire') gone.push(this.history.diedMs(asked.by), answered?.atMs)
    for (const { fault, atMs } of faults) if (fault === 'removed job' || fault === 'cancel') gone.push(atMs)
    const untilMs = Math.min(...gone.filter((ms) => ms !== undefined))
    if (untilMs <= fromMs) return
    const lane = asked.door === 'acquire' ? `acquire of ${asked.by}` : 'lines'
    this.at(fromMs, 2, () => this.line.enter(story, lane, this.isUnjudged(story, fromMs), fromMs))
    this.at(untilMs, 3, () => this.line.leave(story))
  }

  /** A call whose starts are spaced in a window, or that may run in degraded mode instead, stands where facts do not tell. */
  private isUnjudged({ asked }: Story, atMs: number): boolean {
    const met = this.history.metersDuring(asked.scopes, atMs, atMs).flat()
    if (asked.spaced === true && met.some(({ form }) => form !== null && 'windowMs' in form)) return true
    return met.some(({ limit }) => limit.mode !== undefined)
  }

  private planRun(run: Run): void {
    const { history, bounds } = this
    const { story, started, ended, diedMs } = run
    const atMs = chargeMs(run)
    const id = `${story.id}#${started.run}`
    const found = history
      .metersDuring(story.asked.scopes, atMs - bounds.changeMs, atMs)
      .flat()
      .filter(({ limit }) => countsMode(limit, run.degraded))
    const met = [...new Map(found.map((one) => [one.id, one])).values()]
    const settledMs = settledByMs(history, run, bounds)
    const endMs = ended !== undefined && settledMs <= ended.atMs + bounds.stepMs ? ended.atMs : settledMs
    for (const one of met) {
      if (one.limit.unit === undefined && story.asked.door === 'record') continue
      const cost = costIn(one.limit, story.asked.costs)
      this.at(atMs, 3, () => {
        // What was recorded asks for no room: what exceeds a window there is debt, which the windows to come pay.
        if (story.asked.door === 'record') this.meters.of(one).owe(atMs, cost, atMs)
        else this.meters.of(one).limit.charge(atMs, cost, id)
      })
      const leaseMs = one.form?.kind === 'slots' ? one.form.leaseMs : 0
      if (one.limit.unit === undefined) {
        const held = story.asked.door === 'gate' || story.asked.door === 'acquire' ? atMs + leaseMs : Number.POSITIVE_INFINITY
        const freeMs = Math.min(held, endMs === Number.POSITIVE_INFINITY ? (diedMs ?? history.diedMs(started.by)) + leaseMs : endMs)
        this.at(freeMs, 0, () => this.meters.of(one).limit.giveBack(freeMs, 1, id))
        continue
      }
      if (ended === undefined || endMs === Number.POSITIVE_INFINITY) continue
      const back = ended.how === 'sent back' || ended.how === 'released'
      const actual = back ? 0 : ended.reported ? costIn(one.limit, ended.actual) : cost
      if (actual < cost) this.at(endMs, 0, () => this.meters.of(one).limit.giveBack(endMs, cost - actual, id))
      if (actual > cost) this.at(ended.atMs, 0, () => this.meters.of(one).owe(ended.atMs, actual - cost, started.atMs))
    }
    this.workers.note(run)
  }

  private planFault(fault: FaultFact): void {
    const { atMs } = fault
    const untilMs = goesOnUntilMs(fault)
    if (STOPS_ALL.includes(fault.fault)) {
      this.at(atMs, 1, () => {
        this.stoppedUntilMs = Math.max(this.stoppedUntilMs, untilMs)
      })
    }
    if (fault.fault === 'redis clock') {
      this.at(atMs, 1, () => {
        this.stoppedUntilMs = Math.max(this.stoppedUntilMs, untilMs)
        // A bucket is not refilled until a clock that was set back has caught up.
        const lostMs = Math.max(0, -(fault.byMs ?? 0))
        for (const { form, limit } of this.meters.all()) {
          if (form?.kind === 'bucket' || form?.kind === 'leaky bucket') limit.owe(atMs, (lostMs * form.perSecond) / 1000, atMs)
        }
        // Their borders, and what counts in them, follow a clock that facts do not tell.
        for (const meter of this.meters.all()) if (meter.form !== null && 'windowMs' in meter.form) meter.unknownUntilMs = Number.POSITIVE_INFINITY
      })
    }
    if (fault.fault === 'failover') {
      const lostFromMs = (fault.lostFromMs ?? Number.NEGATIVE_INFINITY) - this.bounds.stepMs
      this.at(atMs, 1, () => {
        for (const story of this.history.stories.values())
          if (story.asked.atMs <= atMs && (acceptedMs(story) ?? Number.POSITIVE_INFINITY) >= lostFromMs) this.line.leave(story)
      })
    }
    this.at(untilMs, 1, () => {})
    if (fault.fault === 'pause') this.at(untilMs + this.bounds.changeMs, 1, () => {})
  }

  private hindrance({ asked }: WaitingGroup, atMs: number): 'sick' | 'other' | undefined {
    if (atMs < this.stoppedUntilMs) return 'other'
    if ((this.refusedMs.get(asked.scopes.agent ?? '') ?? Number.POSITIVE_INFINITY) <= atMs) return 'sick'
    const isPaused = this.pauses.some(
      (pause) =>
        pause.atMs <= atMs &&
        atMs < pause.untilMs + this.bounds.changeMs &&
        Object.entries(pause.scopes ?? {}).every(([scope, value]) => asked.scopes[scope as keyof typeof asked.scopes] === value),
    )
    if (isPaused) return 'sick'
    if (asked.queue !== undefined) return this.workers.isWorked(asked.queue, atMs) ? undefined : 'sick'
    return this.workers.isStopped(asked.by, atMs) ? 'sick' : undefined
  }

  private look(atMs: number): number {
    const before = this.line.due
    let nextMs = this.line.look(atMs)
    const now = new Set(this.line.due)
    for (const waiting of before) {
      if (now.has(waiting)) continue
      this.settle(waiting, atMs)
      waiting.dueMs = undefined
    }
    for (const waiting of now) waiting.dueMs ??= atMs
    if (this.stoppedUntilMs > atMs) nextMs = Math.min(nextMs, this.stoppedUntilMs)
    this.backlog = this.line.backlog(atMs)
    return nextMs
  }

  /** A call could start until now: was that too long? */
  private settle({ story, dueMs, meters }: Waiting, toMs: number): void {
    if (dueMs === undefined) return
    const recheckMs = story.asked.door === 'acquire' ? RECHECK_MS : 0
    const lateMs = toMs - dueMs - recheckMs
    if (lateMs <= this.bounds.lateMs || lateMs <= (this.reports.get(story)?.lateMs ?? 0)) return
    const ownMeters = meters.map(({ meter }) => meter)
    const { ms, why } = this.sickness.allowedMs(story, ownMeters, dueMs, toMs)
    if (lateMs <= ms || (lateMs <= ms + KEPT_AHEAD_MS && this.wasKeptFor(story, toMs))) return
    const [run] = story.runs
    const then = run === undefined ? 'never starts' : chargeMs(run) <= toMs ? 'starts then' : 'is overtaken then'
    const text = `${story.id} could start for ${lateMs.toFixed(0)} ms (had room in ${ownMeters.map(({ id }) => id).join(', ')}, was first, and a worker had a place), and ${then}; ${ms.toFixed(0)} ms are allowed (${why})`
    this.reports.set(story, { oracle: 'never stuck', atMs: dueMs, text, calls: [story.id], lateMs })
  }

  /**
   * Whether the room that a call had went to a call before it that another rule had refused: such a call keeps room ahead of time. Which calls do
   * follows from the order in which rules refused them, and facts do not tell that.
   */
  private wasKeptFor(story: Story, atMs: number): boolean {
    const own = this.meterIds(story, atMs)
    for (const run of this.history.runs) {
      const taker = run.story
      const takenMs = chargeMs(run)
      if (takenMs < atMs || takenMs > atMs + this.bounds.stepMs || taker.rank > story.rank) continue
      const met = [...this.meterIds(taker, atMs)]
      if (met.some((id) => own.has(id)) && met.some((id) => !own.has(id))) return true
    }
    return false
  }

  private meterIds({ asked }: Story, atMs: number): Set<string> {
    return new Set(this.history.metersDuring(asked.scopes, atMs, atMs).flatMap((met) => met.map(({ id }) => id)))
  }

  private lostRoom(): Report[] {
    const { lostShare, lostShareSick, lateMs, lateSickMs } = this.bounds
    const reports: Report[] = []
    for (const { id, lost: room, sickMs } of this.meters.all()) {
      for (const { fromMs, toMs, allowed, lost } of room.worst()) {
        const fault = this.sickness.disturbance(fromMs, toMs)
        const isSick = fault !== undefined || this.sickness.isShared({ id, sickMs }, fromMs, toMs)
        // A part of all room, and once as much as flows over while one call is as late as it may be.
        const [share, onceMs] = isSick ? [lostShareSick, lateSickMs] : [lostShare, lateMs]
        const mayLose = allowed * (share + onceMs / (toMs - fromMs))
        if (lost <= mayLose) continue
        const text = `${id} lost ${((100 * lost) / allowed).toFixed(1)} % of its room in ${(toMs - fromMs).toFixed(0)} ms while calls waited that could start; ${((100 * mayLose) / allowed).toFixed(1)} % are allowed`
        reports.push({ oracle: 'never stuck', atMs: fromMs, text, calls: [] })
      }
    }
    return reports
  }
}
