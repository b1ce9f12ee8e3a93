import type { Random } from './random.js'
import type { World } from './world.js'

/** What a process holds open in the world: it goes when the process dies. */
export interface Held {
  /** @param arrives whether what the process has sent and Redis has not read still arrives */
  release(arrives: boolean): void
}

/**
 * One process of the fleet: a name, a clock and what it holds. All processes of a simulation run in one process of Node, one at a time: the world
 * runs an event of one process to its end before the next event begins, so "the current process" is always known.
 */
export class SimProcess {
  dead = false
  diedAtMs: number | undefined
  /** Events of a process that stands still happen when it goes on. */
  stoppedUntilMs = 0
  /** How far its wall clock is from the true one. */
  clockSkewMs = 0
  readonly held = new Set<Held>()
  /** `Math.random` and the random ids of this process. */
  readonly chance: Random
  /** How late its timers fire. */
  readonly timerChance: Random
  /** Makes the names of its connections' streams of chance. */
  connections = 0

  constructor(
    private readonly world: World,
    readonly name: string,
  ) {
    this.chance = world.chance.stream(`process ${name}`)
    this.timerChance = world.chance.stream(`timers ${name}`)
  }

  start(main: () => Promise<void>): this {
    this.world.at(this.world.nowMs, this, 'start', () => {
      // The event ends when the program waits for the first time; what it does after that are events of their own.
      main().catch((error: unknown) => {
        if (!this.dead) this.world.failed(this, error)
      })
    })
    return this
  }

  /** SIGKILL. What it has sent and Redis has not read arrives, or does not. */
  kill(arrives: boolean): void {
    if (this.dead) return
    this.dead = true
    this.diedAtMs = this.world.nowMs
    this.world.note(this.name, 'is killed')
    for (const one of [...this.held]) one.release(arrives)
  }

  /** The process has ended by itself: its connections close. */
  exit(): void {
    this.dead = true
    for (const one of [...this.held]) one.release(true)
  }

  /** SIGSTOP, and SIGCONT after this time. */
  stop(ms: number): void {
    this.stoppedUntilMs = Math.max(this.stoppedUntilMs, this.world.nowMs + ms)
    this.world.note(this.name, `is stopped for ${ms.toFixed(0)} ms`)
  }

  /** Its wall clock steps; durations are measured as before. */
  stepClock(ms: number): void {
    this.clockSkewMs += ms
    this.world.note(this.name, `its clock steps by ${ms.toFixed(0)} ms`)
  }

  get running(): boolean {
    return !this.dead && this.stoppedUntilMs <= this.world.nowMs
  }
}
