import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Outcome } from './outcome.js'
import type { Work } from './work.js'

const SIMULATOR = fileURLToPath(new URL('simulator.js', import.meta.url))

/**
 * Does work in processes of its own, each with its Redis, and hands over each outcome as it comes, in the order of the work.
 * @param goOn whether to go on after an outcome
 */
export async function simulateAll(work: readonly Work[], processes: number, goOn: (outcome: Outcome) => boolean): Promise<void> {
  const outcomes = new Map<number, Outcome>()
  let next = 0
  let told = 0
  let stopped = false
  const tell = () => {
    for (let outcome = outcomes.get(told); outcome !== undefined && !stopped; outcome = outcomes.get(told)) {
      outcomes.delete(told++)
      stopped = !goOn(outcome)
    }
  }
  const simulator = async () => {
    const child = fork(SIMULATOR, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    try {
      while (!stopped && next < work.length) {
        const index = next++
        outcomes.set(index, await ask(child, work[index] as Work))
        tell()
      }
    } finally {
      // It ends by itself then, and its Redis with it; so it does where this process is killed.
      child.disconnect()
    }
  }
  await Promise.all(Array.from({ length: Math.min(processes, work.length) }, simulator))
}

function ask(child: ReturnType<typeof fork>, work: Work): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const done = (outcome: unknown) => {
      child.off('exit', exited)
      resolve(outcome as Outcome)
    }
    const exited = (code: number | null) => {
      child.off('message', done)
      reject(new Error(`a simulating process ended with ${code} at ${JSON.stringify(work.task)}`))
    }
    child.once('message', done)
    child.once('exit', exited)
    child.send(work)
  })
}
