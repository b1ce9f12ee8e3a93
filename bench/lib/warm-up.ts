import { setTimeout as sleep } from 'node:timers/promises'
import type { Tollgate } from '../../src/index.js'
import type { Helper } from './processes.js'

const CALLS = 300
const PATIENCE_MS = 30_000

/** What a worker process has been handed and has finished. */
export interface Progress {
  readonly pickups: number
  readonly finished: number
}

/**
 * Before the clock starts: calls to an agent that no rule covers go through the same worker
 * to the same upstream. Code and connections are then as in a process that has been up for
 * a while, and the meters are as they were. Returns what is to be left out of the count.
 */
export async function warmUp(tollgate: Tollgate, worker: Helper): Promise<Progress> {
  await tollgate.enqueueMany(Array.from({ length: CALLS }, () => ({ agent: 'warm-up', org: 'warm-up' })))
  const deadline = performance.now() + PATIENCE_MS
  let progress = await worker.ask<Progress>('progress')
  while (progress.finished < CALLS) {
    if (performance.now() > deadline) throw new Error(`only ${progress.finished} of ${CALLS} warm-up calls finished`)
    await sleep(50)
    progress = await worker.ask<Progress>('progress')
  }
  await worker.ask('starts')
  return progress
}
