/** The machine's own clock and timers, taken before the simulation replaces those that programs see. Import it before anything that replaces them. */
export const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setImmediate: globalThis.setImmediate,
  Date: globalThis.Date,
  /** Milliseconds of a clock that only goes forward. */
  elapsedMs: performance.now.bind(performance),
}

export function realSleep(ms: number): Promise<void> {
  return new Promise((resolve) => real.setTimeout(resolve, ms))
}
