import type { Logger } from 'pino'

const SIGNALS = ['SIGTERM', 'SIGINT'] as const
const PARENT = process.ppid
const PARENT_CHECK_MS = 250

/**
 * Calls back when the npm that started this process is gone. Behind `npx` a SIGTERM reaches npm and its shell, which end without passing it on; the
 * process then has another parent. Elsewhere a process may well outlive its parent.
 */
function onNpmGone(gone: () => void): void {
  if (process.env['npm_command'] === undefined) return
  const check = setInterval(() => {
    if (process.ppid === PARENT) return
    clearInterval(check)
    gone()
  }, PARENT_CHECK_MS)
  check.unref()
}

/** Resolves at the first SIGTERM or SIGINT, or when npm is gone; a second signal ends the process at once. */
export function stopSignal(log: Logger): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let stopping = false
    onNpmGone(() => {
      stopping = true
      resolve('SIGTERM')
    })
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
