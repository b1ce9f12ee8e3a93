import type { Logger } from 'pino'
import type { Call } from '../model/call.js'

/** How a call ended in a worker. */
export type Ended = 'done' | 'failed' | 'returned' | 'rejected' | 'expired'

/** Is called for the calls of a worker: for metrics, logs and the like. An error that it throws is logged, once for each of its methods. */
export interface WorkerObserver {
  /** A call starts. @param waitedMs since it was enqueued, by the worker's clock */
  started?(call: Call, waitedMs: number): void
  /**
   * A call ended: done; failed (cancelled and timed out ones too); returned to its line by
   * its agent's "not now"; rejected or expired, and never started.
   * @param tokens estimated, and as its agent reported (undefined where it did not)
   */
  ended?(call: Call, how: Ended, tokens: { estimated: number; actual: number | undefined }): void
}

/** An observer whose errors, and promises that reject, concern no call. */
export function safeObserver(observer: WorkerObserver | undefined, log: Pick<Logger, 'error'>): Required<WorkerObserver> {
  const said = new Set<string>()
  const fail = (method: string, error: unknown) => {
    if (said.has(method)) return
    said.add(method)
    log.error({ err: error, method }, 'the observer of a worker failed; this is not logged again')
  }
  const safely = (method: keyof WorkerObserver, call: () => unknown) => {
    try {
      const done = call()
      if (done instanceof Promise) done.catch((error: unknown) => fail(method, error))
    } catch (error) {
      fail(method, error)
    }
  }
  return {
    started: (...about) => safely('started', () => observer?.started?.(...about)),
    ended: (...about) => safely('ended', () => observer?.ended?.(...about)),
  }
}
