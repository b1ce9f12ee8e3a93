import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { DEFAULTS } from '../model/defaults.js'
import type { Clock } from '../model/time.js'
import type { LineFront, ScriptClient } from '../store/redis/script-client.js'
import { scripts } from '../store/redis/scripts.js'
import type { CallNotes } from './call-notes.js'
import { JoblessCalls } from './jobless-calls.js'
import { type LineLook, LOOK_MS } from './line-look.js'
import { type FirstLines, LineScan } from './line-scan.js'
import { QueuePlaces } from './queue-places.js'
import type { JobState, Queues } from './queues.js'
import { parseRecordId } from './stored-call.js'

/** A woken call whose job cannot be promoted yet is tried again after these times, and after that with the other passes. */
const PROMOTE_AGAIN_MS = [20, 50, 150, 500] as const
/** How often a dispatcher without the lease asks for it. */
const LEASE_RETRY_MS = DEFAULTS.dispatcherLeaseMs / 3
/** Instead of the time until the next turn: calls of a line that was looked at have room still. */
const AT_ONCE = -1
/** How long a dispatcher with the lease rests at most: it has to extend the lease, and to look after passes. */
const LONGEST_REST_MS = DEFAULTS.dispatcherLeaseMs / 3

type DispatcherState =
  | { readonly name: 'resting'; readonly timer: NodeJS.Timeout; readonly dueAtMs: number }
  | { readonly name: 'working'; readonly turn: Promise<void> }
  /** As working; and something happened that its reads may have missed. */
  | { readonly name: 'woken'; readonly turn: Promise<void> }
  | { readonly name: 'closed' }

type Lease = { readonly name: 'held'; readonly untilMs: number } | { readonly name: 'free'; readonly askAtMs: number }

/**
 * Wakes waiting calls when they have room.
 *
 * Model. A waiting call is a delayed BullMQ job, and an id in a line of ours. The dispatcher takes turns: it reads which lines can move by now, sends
 * the first calls of each through the dispatch script, and promotes the jobs of the calls that the script has woken. Beside it goes how many calls each
 * queue can take (QueuePlaces). The script decides, under all
 * meters of a call at once, and gives each woken call a pass: its room is claimed until a worker starts it. In the same turn the dispatcher takes
 * calls out of their lines whose deadlines have passed, and looks after passes that should have started.
 *
 * Every process with workers has a dispatcher, and the one that holds the lease in Redis works. The lease only
 * saves work: where two dispatchers both believe that they hold it, the script still wakes each call once.
 *
 *            ┌────────────── next line is due, or 200 ms ──────────────┐
 *            ▼                                                         │
 *        working ── turn ended ──▶ resting ── timer, or wake() ──▶ working
 *            │                        ▲
 *          wake()                     │ 10 ms
 *            ▼                        │
 *          woken ────── turn ended ───┘            every state ── stop() ──▶ closed
 *
 * wake() is called for a message on the channel `wake` (a script gave room back) and after a change of the
 * rules. Without the lease a turn only asks for the lease, at most every 200 ms.
 *
 * If the process dies here:
 * - before the dispatch script: nothing has changed. Another dispatcher takes the lease when it ends (600 ms).
 * - after the script, before the jobs are promoted: the passes stand in Redis. After a second a dispatcher
 *   finds their jobs delayed, and promotes them.
 * - after expired calls were taken out of their lines: they have passes, which are found in the same way.
 * - and no dispatcher is left: BullMQ returns each job when its longest wait is over, and its worker sends a start.
 *
 * Rejected, with their measurements: decisions 0001 (other ways to wait) and 0004 (other places to dispatch).
 */
export class Dispatcher {
  private readonly id = randomUUID()
  private readonly scan: LineScan
  private readonly places: QueuePlaces
  private readonly joblessCalls: JoblessCalls
  private state: DispatcherState = this.resting(0)
  private lease: Lease = { name: 'free', askAtMs: 0 }
  private secondScan: NodeJS.Timeout | undefined
  private readonly retries = new Set<NodeJS.Timeout>()
  private readonly leaseKeys: readonly string[]
  private readonly looks: NodeJS.Timeout

  constructor(
    private readonly redis: Redis,
    private readonly scriptClient: ScriptClient,
    private readonly queues: Queues,
    clock: Clock,
    private readonly log: Logger,
    private readonly history: { readonly look: LineLook; readonly notes: CallNotes },
  ) {
    this.looks = setInterval(() => {
      if (this.leads) void this.history.look.look()
    }, LOOK_MS)
    this.looks.unref()
    this.scan = new LineScan(redis, scriptClient, clock)
    this.places = new QueuePlaces(redis, scriptClient.keys)
    this.joblessCalls = new JoblessCalls(redis, scriptClient)
    this.leaseKeys = [scriptClient.keys.dispatcher, scriptClient.keys.pulse]
  }

  /** Whether this process holds the lease. */
  get leads(): boolean {
    return this.lease.name === 'held' && this.lease.untilMs > performance.now() && this.state.name !== 'closed'
  }

  /** A call may have room now. */
  wake(): void {
    switch (this.state.name) {
      case 'resting':
        if (performance.now() < this.state.dueAtMs) this.rest(0)
        return
      case 'working':
        this.state = { name: 'woken', turn: this.state.turn }
        return
      case 'woken':
      case 'closed':
        return
      default:
        this.state satisfies never
    }
  }

  /**
   * The rules changed: every line may move. A process that does not know of the change yet may still put a call
   * into a line by the old rules; therefore all lines are looked at once more a second later.
   * @param isFirst which lines are looked at before the others
   */
  wakeAll(isFirst: FirstLines = () => false): void {
    const scan = () => {
      this.scan.scanAll(isFirst)
      this.wake()
    }
    scan()
    clearTimeout(this.secondScan)
    if (this.state.name === 'closed') return
    this.secondScan = setTimeout(scan, DEFAULTS.lookAgainMs)
    this.secondScan.unref()
  }

  /** Ends at once: a turn that is under way is not waited for. */
  stop(): void {
    if (this.state.name === 'resting') clearTimeout(this.state.timer)
    this.state = { name: 'closed' }
    clearInterval(this.looks)
    clearTimeout(this.secondScan)
    for (const retry of this.retries) clearTimeout(retry)
  }

  /** Stops after the turn that is under way, and gives the lease to the other dispatchers. */
  async close(): Promise<void> {
    const turn = 'turn' in this.state ? this.state.turn : undefined
    this.stop()
    await turn
    // If Redis refuses, the lease ends by itself.
    if (this.lease.name === 'held') await scripts.lease.run(this.redis, this.leaseKeys, [this.id, 0]).catch(() => {})
  }

  private rest(forMs: number): void {
    if (this.state.name === 'resting') clearTimeout(this.state.timer)
    this.state = this.resting(forMs)
  }

  private resting(forMs: number): DispatcherState {
    return { name: 'resting', timer: setTimeout(() => this.work(), forMs), dueAtMs: performance.now() + forMs }
  }

  private work(): void {
    const turn = this.turn().then(
      (nextMs) => this.finished(nextMs),
      (error: unknown) => {
        this.log.error({ err: error }, 'dispatching failed')
        this.scan.scanAll()
        this.finished(LONGEST_REST_MS)
      },
    )
    this.state = { name: 'working', turn }
  }

  private finished(nextMs: number): void {
    if (this.state.name === 'closed') return
    if (nextMs === AT_ONCE) this.rest(0)
    else this.rest(this.state.name === 'woken' ? DEFAULTS.dispatchIntervalMs : Math.max(DEFAULTS.dispatchIntervalMs, nextMs))
  }

  /** Does what is due. Returns in how many ms the next turn is, or AT_ONCE. */
  private async turn(): Promise<number> {
    if (!(await this.holdsLease())) return LEASE_RETRY_MS
    // The reads below come after everything that woke the dispatcher until now.
    if (this.state.name === 'woken') this.state = { name: 'working', turn: this.state.turn }
    const { lines, passes, late } = await this.scan.due()
    if (late.length > 0) await this.promote(await this.scriptClient.expire(await this.scan.requests(late)))
    if (passes.length > 0) await this.reconcilePasses(passes)
    const [fronts, jobless] = await Promise.all([lines.length === 0 ? [] : this.scan.fronts(lines), this.joblessCalls.release()])
    this.leftWithoutJob(jobless)
    const queues = new Set(fronts.flatMap(({ calls }) => calls.map(({ id }) => parseRecordId(id).queue)))
    const budgets = await this.places.budgets(queues, this.scan.nowMs())
    if (lines.length === 0) return this.scan.nextDueMs(LONGEST_REST_MS)
    const { nowMs, woken, unclaimed, dropped, nextMs, looks, moved } = await this.scriptClient.dispatch(fronts, budgets, true)
    this.scan.setClock(nowMs)
    this.places.woke(unclaimed)
    this.leftWithoutJob(dropped)
    this.history.notes.moved(moved)
    this.noteWoken(fronts, woken)
    await this.promote(woken)
    if (this.scan.looked(fronts, looks)) return AT_ONCE
    return this.scan.unfinished ? 0 : Math.min(LONGEST_REST_MS, nextMs ?? LONGEST_REST_MS)
  }

  /** Takes or extends the lease where it is time for that. */
  private async holdsLease(): Promise<boolean> {
    const nowMs = performance.now()
    const { lease } = this
    switch (lease.name) {
      case 'held':
        if (lease.untilMs - nowMs > (DEFAULTS.dispatcherLeaseMs * 2) / 3) return true
        break
      case 'free':
        if (nowMs < lease.askAtMs) return false
        break
      default:
        lease satisfies never
    }
    // Also where the question fails, the next one has to wait.
    if (lease.name === 'free') this.lease = { name: 'free', askAtMs: nowMs + LEASE_RETRY_MS }
    const won = await scripts.lease.run(this.redis, this.leaseKeys, [this.id, DEFAULTS.dispatcherLeaseMs])
    if (won !== 1) {
      this.lease = { name: 'free', askAtMs: nowMs + LEASE_RETRY_MS }
      return false
    }
    if (lease.name === 'free') {
      const [seconds, micros] = await this.redis.time()
      this.scan.setClock(Number(seconds) * 1000 + Number(micros) / 1000)
      // What the last holder of the lease was about to do is not known here.
      this.scan.scanAll()
      this.history.look.forget()
      void this.history.look.look()
    }
    this.lease = { name: 'held', untilMs: nowMs + DEFAULTS.dispatcherLeaseMs }
    return true
  }

  /** Puts the jobs of woken calls into BullMQ's wait list. A job that is not delayed yet is tried again: its process is still adding it, or putting it back. */
  private async promote(ids: readonly string[], tries = 0): Promise<void> {
    if (ids.length === 0) return
    const promoted = await this.queues.promote(ids)
    const missed = ids.filter((_, index) => promoted[index] === false)
    const afterMs = PROMOTE_AGAIN_MS[tries]
    if (missed.length === 0 || afterMs === undefined || this.state.name === 'closed') return
    const retry = setTimeout(() => {
      this.retries.delete(retry)
      this.promote(missed, tries + 1).catch((error: unknown) => this.log.error({ err: error }, 'waking failed; the calls are found among the passes'))
    }, afterMs)
    this.retries.add(retry)
  }

  private noteWoken(fronts: readonly LineFront[], woken: readonly string[]): void {
    if (woken.length === 0) return
    this.history.notes.woken(woken)
    const ids = new Set(woken)
    for (const { key, calls } of fronts) {
      const count = calls.reduce((sum, { id }) => sum + (ids.has(id) ? 1 : 0), 0)
      if (count > 0) this.history.look.woke(key, count)
    }
  }

  private leftWithoutJob(calls: readonly string[]): void {
    for (const call of calls) this.log.warn({ call }, 'a call stood in line whose job does not exist; it has left the line')
  }

  private unclaimed(call: string | undefined, state: JobState | undefined): void {
    if (state === 'held') this.log.warn({ call }, 'a woken call is held by a worker that does not start it; its room went back')
    else this.log.debug({ call, state }, 'a woken call has not started; its room went back')
  }

  /** Looks after passes that should have started: promotes jobs that are still delayed, and gives back claims of calls that will not start. */
  private async reconcilePasses(ids: readonly string[]): Promise<void> {
    const requests = await this.scan.requests(ids)
    const states = await this.queues.jobStates(ids)
    this.places.saw(new Set(ids.map((id) => parseRecordId(id).queue)), this.scan.nowMs())
    const delayed = ids.filter((_, index) => states[index] === 'delayed')
    // They are tried once: a job that is not delayed any more is found at the next look.
    await this.promote(delayed, PROMOTE_AGAIN_MS.length)
    const results = await this.scriptClient.reconcilePasses(
      requests.map(({ request }, index) => {
        const state = states[index] ?? 'missing'
        return { request, seen: state === 'delayed' ? 'queued' : state }
      }),
    )
    for (const [index, result] of results.entries()) {
      const call = ids[index]
      switch (result) {
        case 'dropped':
          this.log.warn({ call }, 'a call was woken whose job does not exist; its room went back')
          break
        case 'unclaimed':
          this.unclaimed(call, states[index])
          break
        case 'kept':
        case 'gone':
          break
        default:
          result satisfies never
      }
    }
  }
}
