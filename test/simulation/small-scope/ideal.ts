import { isStill } from './actions/time.js'
import { Agent } from './agent.js'
import type { AgentCharge, Model } from './model.js'
import type { Setting } from './setting.js'

/** Whether a call waits for nothing but room: its app and its worker live, and were never silent for too long. */
export function isHealthy({ calls, jobs }: Model, call: number): boolean {
  const job = jobs[call]
  if (job?.state === 'active') return job.lockEndsMs === undefined
  const { state, slow } = calls[call] ?? {}
  if (slow) return false
  return job?.state === 'delayed' || job?.state === 'wait' || (job?.state === 'none' && (state === 'new' || state === 'decided' || state === 'added'))
}

/**
 * When each call that waits would start if nothing but the agent's own limits held it back, and the call whose room is there first always went first.
 * @returns by call, ms since the beginning; undefined for calls that do not start any more
 */
export function idealStarts(setting: Setting, agent: Agent, model: Model): (number | undefined)[] {
  const charges: AgentCharge[] = [...model.charges]
  const slots = takenSlots(model)
  const starts: (number | undefined)[] = model.calls.map(() => undefined)
  const waiting = new Map(model.calls.flatMap((_, call) => (waits(model, call) ? [[call, readyAtMs(model, call)] as const] : [])))
  while (waiting.size > 0) {
    const [first] = [...waiting].map(([call, readyMs]) => ({ call, atMs: earliest(call, readyMs) })).sort((one, other) => one.atMs - other.atMs)
    if (first === undefined) break
    starts[first.call] = first.atMs
    charges.push({ call: first.call, attempt: 0, atMs: first.atMs })
    slots.push({ call: first.call, untilMs: first.atMs + setting.scope.runMs })
    waiting.delete(first.call)
  }
  return starts

  function earliest(call: number, readyMs: number): number {
    let atMs = readyMs
    for (const limit of setting.scope.slots) {
      const key = agent.keyOf(limit, call)
      const ends = slots.filter((slot) => agent.keyOf(limit, slot.call) === key && slot.untilMs > atMs).map(({ untilMs }) => untilMs)
      ends.sort((one, other) => one - other)
      atMs = Math.max(atMs, ends[ends.length - limit.form.slots] ?? 0)
    }
    for (const limit of setting.scope.rates) {
      const { form } = limit
      const over = agent.used(limit, charges, agent.keyOf(limit, call), atMs) + agent.costOf(limit, call) - Agent.capacity(limit)
      if (over <= 0) continue
      if (form.kind === 'bucket') atMs += (over / form.perSecond) * 1000
      else atMs = (Math.floor(atMs / form.windowMs) + 1) * form.windowMs
    }
    return atMs
  }
}

function waits(model: Model, call: number): boolean {
  const { state } = model.jobs[call] ?? { state: 'none' }
  if (state === 'none') return isHealthy(model, call)
  if (state !== 'active') return state === 'wait' || state === 'delayed'
  return !model.runs.some((run) => run.call === call && !isStill(model, run))
}

function readyAtMs({ jobs, atMs, agentBlockedUntilMs }: Model, call: number): number {
  const job = jobs[call]
  const unlockedMs = job?.state === 'active' ? (job.lockEndsMs ?? 0) : 0
  return Math.max(atMs, agentBlockedUntilMs, unlockedMs)
}

/** Until when slots are rightly taken: by runs, and by those whose workers died. */
function takenSlots(model: Model): { call: number; untilMs: number }[] {
  const runs = model.runs
    .filter((run) => run.leaseEndsMs > model.atMs)
    .map((run) => {
      const worker = model.workers.find(({ phase, start }) => phase === 'running' && start?.call === run.call && start.attempt === run.attempt)
      return { call: run.call, untilMs: isStill(model, run) ? run.leaseEndsMs : Math.max(model.atMs, worker?.dueMs ?? 0) }
    })
  return [...runs, ...model.deadSlots]
}
