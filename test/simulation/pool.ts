import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Outcome } from './outcome.js'
import type { Work } from './work.js'

const SIMULATOR = fileURLToPath(new URL('simulator.js', import.meta.url))

/** A process that simulates, with its own Redis: one piece of work after the other, all of one program. */
export class Simulator {
  private readonly child: ChildProcess = fork(SIMULATOR, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })

  /** @param longestMs how long it may take, by the real clock; a run that takes longer ends the process */
  simulate(work: Work, longestMs?: number): Promise<Outcome> {
    const { child } = this
    return new Promise((resolve, reject) => {
      const timer = longestMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), longestMs)
      const done = (outcome: unknown) => {
        clearTimeout(timer)
        child.off('exit', exited)
        resolve(outcome as Outcome)
      }
      const exited = (code: number | null) => {
        clearTimeout(timer)
        child.off('message', done)
        reject(new Error(`a simulating process ended with ${code} at ${JSON.stringify(work.task)}`))
      }
      child.once('message', done)
      child.once('exit', exited)
      child.send(work)
    })
  }

  /** It ends by itself then, and its Redis with it; so it does where this process is killed. */
  close(): void {
    if (this.child.connected) this.child.disconnect()
  }
}

/**
 * Does work in processes of its own, each with its Redis, and hands over each outcome as it comes, in the order of the work.
 * @param goOn whether to go on after an outcome
 */
export async function simulateAll(work: readonly Work[], processes: number, goOn: (outcome: Outcome) => boolean | Promise<boolean>): Promise<void> {
  const outcomes = new Map<number, Outcome>()
  let next = 0
  let told = 0
  let stopped = false
  let telling: Promise<void> = Promise.resolve()
  const tell = async () => {
    for (let outcome = outcomes.get(told); outcome !== undefined && !stopped; outcome = outcomes.get(told)) {
      outcomes.delete(told++)
      stopped = !(await goOn(outcome))
    }
  }
  const lane = async () => {
    const simulator = new Simulator()
    try {
      while (!stopped && next < work.length) {
        const index = next++
        outcomes.set(index, await simulator.simulate(work[index] as Work))
        telling = telling.then(tell)
        await telling
      }
    } finally {
      simulator.close()
    }
  }
  await Promise.all(Array.from({ length: Math.min(processes, work.length) }, lane))
}
