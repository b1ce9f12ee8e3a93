import { setTimeout as sleep } from 'node:timers/promises'
import type { Tollgate } from '../../src/index.js'
import type { Helper } from './processes.js'

const CALLS = 300
const TIMEOUT_MS = 30_000

/** Calls that BullMQ has handed to a worker process, and calls that it has finished. */
export interface Progress {
  readonly pickups: number
  readonly finished: number
}

/**
 * Before a measurement: sends calls to an agent that no rule covers through the same worker to
 * the same upstream. Code is then compiled and connections are open, and no meter has changed.
 * @returns the progress so far, to be left out of the count
 */
export async function warmUp(tollgate: Tollgate, worker: Helper): Promise<Progress> {
  await tollgate.enqueueMany(Array.from({ length: CALLS }, () => ({ agent: 'warm-up', org: 'warm-up' })))
  const deadline = performance.now() + TIMEOUT_MS
  let progress = await worker.request<Progress>('progress')
  while (progress.finished < CALLS) {
    if (performance.now() > deadline) throw new Error(`only ${progress.finished} of ${CALLS} warm-up calls finished`)
    await sleep(50)
    progress = await worker.request<Progress>('progress')
  }
  await worker.request('starts')
  return progress
}
