/** Where the time of decisions comes from: Redis' own clock, or one that a test or a simulation gives. */
export interface Clock {
  /** What scripts get as their time: '' to ask Redis, else milliseconds since the epoch. */
  forScripts(): string
}

export const redisClock: Clock = { forScripts: () => '' }

/** About now, in ms: this machine's clock, or the one that is given. For what needs no more than that. */
export function approximateMs(clock: Clock): number {
  const given = clock.forScripts()
  return given === '' ? Date.now() : Number(given)
}

/** A clock that stands still until it is moved. For tests and simulations. */
export class GivenClock implements Clock {
  nowMs: number
  constructor(nowMs: number) {
    this.nowMs = nowMs
  }
  forScripts(): string {
    return String(this.nowMs)
  }
  advance(ms: number): void {
    this.nowMs += ms
  }
}
export const SECOND = 1000
export const MINUTE = 60 * SECOND
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR
export const WEEK = 7 * DAY
