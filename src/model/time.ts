/** The clock of decisions: Redis' own, or one that a test or a simulation sets. */
export interface Clock {
  /** The time that scripts get as an argument: '' = use Redis' clock, else ms since the epoch. */
  forScripts(): string
}

export const redisClock: Clock = { forScripts: () => '' }

/** The time in ms since the epoch by the given clock; by this machine's clock where decisions use Redis' own. Only for uses that bear the difference between the two. */
export function approximateMs(clock: Clock): number {
  const given = clock.forScripts()
  return given === '' ? Date.now() : Number(given)
}

/** A clock that stands still until it is moved. For tests and simulations. */
export class GivenClock implements Clock {
  /** @param nowMs ms since the epoch */
  constructor(public nowMs: number) {}
  forScripts(): string {
    return String(this.nowMs)
  }
  advance(ms: number): void {
    this.nowMs += ms
  }
}

/** The longest timer that Node supports. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1

/** Lengths of time in ms. */
export const SECOND = 1000
export const MINUTE = 60 * SECOND
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR
export const WEEK = 7 * DAY

const SHOWN_UNITS = [
  ['d', DAY],
  ['h', HOUR],
  ['min', MINUTE],
  ['s', SECOND],
] as const

/** A length of time as a person reads it, in two units at most: 6 min 12 s · 1.2 s · 40 ms. */
export function durationText(ms: number): string {
  if (ms < 100) return `${Math.round(Math.max(0, ms))} ms`
  if (ms < 10 * SECOND) return `${(ms / SECOND).toFixed(1)} s`
  const rounded = Math.round(ms / SECOND) * SECOND
  const at = SHOWN_UNITS.findIndex(([, length]) => rounded >= length)
  const [unit, length] = SHOWN_UNITS[at] ?? ['s', SECOND]
  const [smaller, smallerLength] = SHOWN_UNITS[at + 1] ?? ['', 0]
  const whole = Math.floor(rounded / length)
  const rest = smallerLength === 0 ? 0 : Math.floor((rounded % length) / smallerLength)
  return rest === 0 ? `${whole} ${unit}` : `${whole} ${unit} ${rest} ${smaller}`
}
