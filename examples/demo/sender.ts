import { setTimeout as sleep } from 'node:timers/promises'
import type { Tollgate } from '../../src/index.js'
import type { Plan } from './plan.js'
import type { Progress } from './progress.js'

/** Calls that are due within this time are enqueued together. */
const TICK_MS = 10

/** Enqueues every call at its time. @throws the reason of the signal when it aborts */
export async function sendCalls(plan: Plan, tollgate: Tollgate, progress: Progress, signal: AbortSignal): Promise<void> {
  const begin = performance.now()
  for (let next = 0; next < plan.calls.length; ) {
    const elapsedMs = performance.now() - begin
    const from = next
    while (next < plan.calls.length && (plan.calls[next]?.atMs ?? 0) <= elapsedMs) next++
    const calls = plan.calls.slice(from, next).map(({ call }) => call)
    for (const call of calls) progress.sent(call)
    const tickets = await tollgate.enqueueMany(calls)
    for (const [index, ticket] of tickets.entries()) {
      const call = calls[index]
      if (call !== undefined) progress.answered(call, ticket)
    }
    const nextAtMs = plan.calls[next]?.atMs ?? 0
    await sleep(Math.max(TICK_MS, nextAtMs - (performance.now() - begin)), undefined, { signal })
  }
}
