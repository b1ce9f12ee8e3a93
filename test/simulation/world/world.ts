import { EventQueue, type SimEvent } from './events.js'
import { Journal } from './journal.js'
import { SimProcess } from './process.js'
import { Chance } from './random.js'
import { real } from './real-node.js'
import { EPOCH_MS } from './server.js'

interface Immediate {
  readonly run: () => void
  cancelled: boolean
}

/**
 * One virtual clock, the events to come, and the processes that they happen in.
 *
 * The world takes the earliest event, sets the clock to its time, makes its process the current one, runs it, and then lets Node settle every tick,
 * promise and immediate that came of it. No process can do anything else without time or an answer, and both are events. So everything that happens
 * between two events happens in the current process, in an order that depends on nothing outside: the same seed gives the same run.
 */
export class World {
  nowMs = EPOCH_MS
  current: SimProcess | null = null
  readonly processes: SimProcess[] = []
  readonly chance: Chance
  readonly journal: Journal
  /** What no process expected: unhandled rejections, programs that ended with an error. */
  readonly errors: { readonly atMs: number; readonly process: string; readonly text: string }[] = []
  private readonly events = new EventQueue()
  private immediates: Immediate[] = []

  constructor(
    readonly seed: number,
    { keepLines = 0, details = false }: { readonly keepLines?: number; readonly details?: boolean } = {},
  ) {
    this.chance = new Chance(seed)
    this.journal = new Journal(keepLines, details)
  }

  process(name: string): SimProcess {
    const process = new SimProcess(this, name)
    this.processes.push(process)
    return process
  }

  at(atMs: number, process: SimProcess | null, what: string, run: SimEvent['run']): SimEvent {
    return this.events.add(Math.max(atMs, this.nowMs), process, what, run)
  }

  immediate(run: () => void): Immediate {
    const immediate = { run, cancelled: false }
    this.immediates.push(immediate)
    return immediate
  }

  note(who: string, text: string, detail?: string): void {
    this.journal.write(this.nowMs, who, text, detail)
  }

  failed(process: SimProcess | null, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    this.errors.push({ atMs: this.nowMs, process: process?.name ?? '', text })
    this.note(process?.name ?? '', `error: ${text.split('\n')[0]}`)
  }

  /** Runs until this time, or until `done` says so. */
  async run(untilMs: number, done: () => boolean = () => false): Promise<void> {
    for (;;) {
      const next = this.events.next
      if (next === undefined || next.atMs > untilMs) {
        this.nowMs = Math.max(this.nowMs, untilMs)
        return
      }
      if (done()) return
      this.events.take()
      if (!next.cancelled) await this.happen(next)
    }
  }

  private async happen(event: SimEvent): Promise<void> {
    const { process } = event
    if (process?.dead === true) return
    if (process !== null && process.stoppedUntilMs > event.atMs) {
      this.postpone(event, process)
      return
    }
    this.nowMs = Math.max(this.nowMs, event.atMs)
    this.current = process
    const running = event.run()
    if (running !== undefined) await running
    await this.settle()
    this.current = null
  }

  /** A timer that is cleared while its process stands still must not fire, so the postponed event looks at the first one. */
  private postpone(event: SimEvent, process: SimProcess): void {
    this.at(process.stoppedUntilMs, process, event.what, () => (event.cancelled ? undefined : event.run()))
  }

  /** Lets the current process do all that it can do without time and without an answer. */
  private async settle(): Promise<void> {
    for (;;) {
      await new Promise((resolve) => real.setImmediate(resolve))
      if (this.immediates.length === 0) return
      const due = this.immediates
      this.immediates = []
      for (const immediate of due) if (!immediate.cancelled) immediate.run()
    }
  }
}
