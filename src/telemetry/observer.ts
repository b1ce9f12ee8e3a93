import type { Call } from '../model/call.js'

/** How a call ended in a worker. */
export type Ended = 'done' | 'failed' | 'returned' | 'rejected' | 'expired'

/** Is called for the calls of a worker: for metrics, logs and the like. An error that it throws fails the call. */
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
