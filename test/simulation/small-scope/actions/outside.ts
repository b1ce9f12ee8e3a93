import { LOOK_AGAIN_MS, type Model } from '../model.js'
import type { Action, Setting } from '../setting.js'

/** What is done from outside: somebody removes a job with BullMQ's own means; the rules change, and each process learns of it at its own time. */
export function outsideActions({ scope }: Setting, model: Model): Action[] {
  const actions: Action[] = []
  if (model.budget.removals > 0) {
    for (const [call, job] of model.jobs.entries()) {
      if (job.state === 'wait' || job.state === 'delayed')
        actions.push({ name: `the job of c${call} is removed`, kind: 'fault', run: (next) => remove(next, call) })
    }
  }
  if (model.budget.ruleChanges > 0) actions.push({ name: 'the rules change', kind: 'fault', run: (next) => change(next, scope.rules.length) })
  const { inForce, app, workers, dispatcher } = model.rules
  if (app !== inForce && model.appsUp.includes(true)) actions.push({ name: 'the app learns the rules', kind: 'step', run: (next) => know(next, 'app') })
  if (workers !== inForce) actions.push({ name: 'the workers learn the rules', kind: 'step', run: (next) => know(next, 'workers') })
  if (dispatcher !== inForce) actions.push({ name: 'the dispatcher learns the rules', kind: 'step', run: learn })
  return actions
}

function remove(model: Model, call: number): void {
  model.budget.removals--
  model.jobs[call] = { state: 'removed' }
}

function change(model: Model, versions: number): void {
  model.budget.ruleChanges--
  model.rules.inForce = (model.rules.inForce + 1) % versions
}

function know(model: Model, process: 'app' | 'workers' | 'dispatcher'): void {
  model.rules[process] = model.rules.inForce
}

/** The dispatcher looks at all lines, and once more a second later. */
function learn(model: Model): void {
  know(model, 'dispatcher')
  model.scansAll = true
  model.scanAgainAtMs = model.atMs + LOOK_AGAIN_MS
}
