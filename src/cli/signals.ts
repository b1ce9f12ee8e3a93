import type { Logger } from 'pino'

const SIGNALS = ['SIGTERM', 'SIGINT'] as const

/** Resolves at the first SIGTERM or SIGINT; a second one ends the process at once. */
export function stopSignal(log: Logger): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let stopping = false
    for (const signal of SIGNALS) {
      process.on(signal, () => {
        if (stopping) {
          log.warn({ signal }, 'asked to stop a second time; ending at once, BullMQ gives the calls to another worker')
          process.exit(1)
        }
        stopping = true
        resolve(signal)
      })
    }
  })
}
