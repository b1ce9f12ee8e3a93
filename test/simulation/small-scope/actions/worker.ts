import type { Agent } from '../agent.js'
import type { AppCall, Job, Model, Run, Start, Worker } from '../model.js'
import { holdsLock, label } from '../model.js'
import { JOB_LOCK_MS } from '../scope.js'
import type { Action, Setting } from '../setting.js'
import { attemptActions } from './attempt.js'
import { settlementActions } from './settlement.js'

/** What workers do: each has one place, takes jobs and follows them as `src/queue/attempt.ts` does; and what can happen to them. */
export function workerActions(setting: Setting, agent: Agent, model: Model): Action[] {
  const actions: Action[] = []
  for (const [index, worker] of model.workers.entries()) {
    // The same as the worker before: whatever this one does, the other one can do.
    if (index > 0 && JSON.stringify(model.workers[index - 1]) === JSON.stringify(worker)) continue
    const { unsettled } = worker
    const start = worker.start ?? unsettled
    const of = start === undefined ? 'an idle worker' : `the worker of ${label(start)}`
    if (worker.still) {
      actions.push({ name: `${of} goes on`, kind: 'step', run: (next) => goOn(next, index) })
      continue
    }
    actions.push(...settlementActions(setting, model, index), ...attemptActions(setting, agent, model, index))
    if (worker.phase === 'idle') {
      for (const [call, job] of model.jobs.entries()) {
        if (job.state === 'wait')
          actions.push({
            name: `take c${call}${unsettled === undefined ? '' : ` with the end of ${label(unsettled)}`}`,
            kind: 'step',
            run: (next) => take(next, index, call),
          })
      }
    }
    if (start === undefined) continue
    if (model.budget.deaths > 0 && setting.scope.mortal.includes('worker')) actions.push({ name: `${of} dies`, kind: 'fault', run: (next) => die(next, index) })
    if (model.budget.stops > 0) actions.push({ name: `${of} stands still`, kind: 'fault', run: (next) => standStill(next, index) })
  }
  return actions
}

function take(model: Model, index: number, call: number): void {
  const appCall = model.calls[call] as AppCall
  const attempt = ++appCall.attempts
  model.jobs[call] = { state: 'active', attempt }
  const start: Start = { call, attempt, batch: 0, rules: model.rules.workers }
  const { unsettled, told } = model.workers[index] as Worker
  model.workers[index] = {
    phase: 'starting',
    start,
    ...(unsettled === undefined ? {} : { unsettled }),
    ...(told === undefined ? {} : { told }),
    ...((appCall.abortUntilMs ?? 0) > model.atMs ? { aborted: true } : {}),
  }
}

/** Another worker, which knows nothing, takes the place of one that died. BullMQ finds its job when the lock has ended. */
function die(model: Model, index: number): void {
  const { start } = model.workers[index] as Worker
  model.budget.deaths--
  model.workers[index] = { phase: 'idle' }
  if (start === undefined) return
  ;(model.calls[start.call] as AppCall).excuses++
  const isOf = (run: Run) => run.call === start.call && run.attempt === start.attempt
  for (const { leaseEndsMs } of model.runs.filter(isOf)) model.deadSlots.push({ call: start.call, untilMs: leaseEndsMs })
  model.runs = model.runs.filter((run) => !isOf(run))
  letLockEnd(model, start)
}

/** It does nothing from now on, and does not know: as a stopped process, or one whose event loop is blocked. */
function standStill(model: Model, index: number): void {
  const worker = model.workers[index] as Worker
  model.budget.stops--
  model.workers[index] = { ...worker, still: true }
  if (worker.start === undefined) return
  ;(model.calls[worker.start.call] as AppCall).excuses++
  letLockEnd(model, worker.start)
}

function goOn(model: Model, index: number): void {
  const { still: _, ...worker } = model.workers[index] as Worker
  model.workers[index] = worker
  // It renews the lock where that has not ended.
  if (worker.start !== undefined && holdsLock(model, worker.start)) model.jobs[worker.start.call] = { state: 'active', attempt: worker.start.attempt }
}

function letLockEnd(model: Model, start: Start): void {
  if (holdsLock(model, start)) model.jobs[start.call] = { state: 'active', attempt: start.attempt, lockEndsMs: model.atMs + JOB_LOCK_MS }
}

/** BullMQ gives a job to another worker whose lock has ended. */
export function stalledActions({ jobs, atMs }: Model): Action[] {
  return jobs.flatMap((job: Job, call): Action[] => {
    if (job.state !== 'active' || (job.lockEndsMs ?? Number.POSITIVE_INFINITY) > atMs) return []
    const run = (model: Model) => {
      model.jobs[call] = { state: 'wait' }
    }
    return [{ name: `BullMQ finds c${call} stalled`, kind: 'step', run }]
  })
}
