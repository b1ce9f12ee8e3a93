import type { CallRequest } from '../../../../src/admission/request.js'
import type { Agent } from '../agent.js'
import type { Model, Run } from '../model.js'
import { SLOT_LEASE_MS } from '../scope.js'
import type { Action, Setting } from '../setting.js'

/** A woken call is sent to its worker a little ahead of its time, and held there for so long at most. */
const SHORT_HOLD_MS = 100

/** Time passes. All processes may be slow: that it passes says nothing about what they had to do. */
export function timeActions(setting: Setting, agent: Agent, model: Model): Action[] {
  // Before the first call nothing depends on the time.
  if (model.calls.every(({ state }) => state === 'new')) return []
  const held = model.workers.flatMap(({ phase, dueMs = 0 }) =>
    phase === 'starting' && dueMs > model.atMs && dueMs <= model.atMs + SHORT_HOLD_MS ? [dueMs] : [],
  )
  return [
    // A worker that holds a call is not slow: that its time comes costs no jump.
    ...(held.length === 0 ? [] : [holdEnds(setting, agent, Math.min(...held))]),
    ...(model.budget.jumps === 0 ? [] : setting.scope.jumpsMs.map((byMs) => jump(setting, agent, byMs))),
  ]
}

function holdEnds(setting: Setting, agent: Agent, atMs: number): Action {
  return { name: 'a hold ends', kind: 'time', run: (next) => passTime(setting, agent, next, atMs) }
}

function jump(setting: Setting, agent: Agent, byMs: number): Action {
  return {
    name: `+${byMs}`,
    kind: 'time',
    run: (next) => {
      next.budget.jumps--
      return passTime(setting, agent, next, next.atMs + byMs)
    },
  }
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
  if (model.scanAgainAtMs > 0 && model.scanAgainAtMs <= model.atMs) Object.assign(model, { scansAll: true, scanAgainAtMs: 0 })
  for (const call of model.calls) if ((call.abortUntilMs ?? 0) <= model.atMs) delete call.abortUntilMs
  for (const [call, job] of model.jobs.entries()) if (job.state === 'delayed' && job.untilMs <= model.atMs) model.jobs[call] = { state: 'wait' }
}

/** Renews the slots of the runs whose time for that has come. A slot whose lease has ended is taken back where there is room; else its run counts no longer. */
export async function renewSlots(setting: Setting, model: Model): Promise<void> {
  const due = model.runs.filter((run) => run.renewAtMs <= model.atMs && !isStill(model, run))
  if (due.length === 0) return
  const requests = due.map((run) => setting.startRequest(run))
  const lost = await setting.client(model.rules.workers).renew(requests)
  model.runs = model.runs.map((run) => {
    if (!due.includes(run)) return run
    const held = !lost.includes(requests[due.indexOf(run)] as CallRequest)
    return { ...run, leaseEndsMs: held ? model.atMs + SLOT_LEASE_MS : 0, renewAtMs: model.atMs + SLOT_LEASE_MS / 3 }
  })
}

/** Whether the worker of a run stands still. */
export function isStill({ workers }: Model, { call, attempt }: Run): boolean {
  return workers.some(({ still, start }) => still === true && start?.call === call && start.attempt === attempt)
}
