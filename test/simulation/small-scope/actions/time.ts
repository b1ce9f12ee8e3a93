import type { Agent } from '../agent.js'
import type { Model, Run } from '../model.js'
import { SLOT_LEASE_MS } from '../scope.js'
import type { Action, Setting } from '../setting.js'

/** Time passes. All processes may be slow: that it passes says nothing about what they had to do. */
export function timeActions(setting: Setting, agent: Agent, model: Model): Action[] {
  // Before the first call nothing depends on the time.
  if (model.budget.jumps === 0 || model.calls[0]?.state === 'new') return []
  return setting.scope.jumpsMs.map((byMs) => ({
    name: `+${byMs}`,
    kind: 'time',
    run: (next) => {
      next.budget.jumps--
      return passTime(setting, agent, next, next.atMs + byMs)
    },
  }))
}

/** Lets time pass, in as many parts as slots are to be renewed. */
export async function passTime(setting: Setting, agent: Agent, model: Model, untilMs: number): Promise<void> {
  while (model.atMs < untilMs) {
    const renewals = model.runs.filter((run) => !isStill(model, run)).map(({ renewAtMs }) => renewAtMs)
    model.atMs = Math.max(model.atMs, Math.min(untilMs, ...renewals))
    setting.setTime(model.atMs)
    await renewSlots(setting, model)
  }
  agent.forget(model)
  model.runs = model.runs.map((run) => (run.leaseEndsMs > model.atMs ? run : { ...run, leaseEndsMs: 0 }))
  model.deadSlots = model.deadSlots.filter((slot) => slot.untilMs > model.atMs)
  model.retries = model.retries.filter((retry) => retry.untilMs > model.atMs)
  for (const [call, job] of model.jobs.entries()) if (job.state === 'delayed' && job.untilMs <= model.atMs) model.jobs[call] = { state: 'wait' }
}

/** Renews the slots of the runs whose time for that has come. A lease that has ended is not brought back, and its run counts no longer. */
export async function renewSlots(setting: Setting, model: Model): Promise<void> {
  const due = model.runs.filter((run) => run.renewAtMs <= model.atMs && !isStill(model, run))
  if (due.length === 0) return
  const leases = new Map<string, { leaseMs: number; ids: string[] }>()
  for (const run of due) {
    for (const { key, leaseMs } of setting.slotsOf(run.call, run.rules)) {
      const lease = leases.get(key) ?? { leaseMs, ids: [] }
      lease.ids.push(setting.idOf(run.call))
      leases.set(key, lease)
    }
  }
  if (leases.size > 0) await setting.client(model.rules.workers).renew(leases)
  model.runs = model.runs.map((run) => {
    if (!due.includes(run)) return run
    const held = run.leaseEndsMs > model.atMs
    return { ...run, leaseEndsMs: held ? model.atMs + SLOT_LEASE_MS : 0, renewAtMs: model.atMs + SLOT_LEASE_MS / 3 }
  })
}

/** Whether the worker of a run stands still. */
export function isStill({ workers }: Model, { call, attempt }: Run): boolean {
  return workers.some(({ still, start }) => still === true && start?.call === call && start.attempt === attempt)
}
