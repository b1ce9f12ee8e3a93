import type { Agent } from '../agent.js'
import type { Model } from '../model.js'
import type { Action, Setting } from '../setting.js'
import { appActions } from './app.js'
import { batchActions } from './batch.js'
import { cancellerActions } from './canceller.js'
import { dispatcherActions } from './dispatcher.js'
import { outsideActions } from './outside.js'
import { lateCopyActions } from './script-call.js'
import { timeActions } from './time.js'
import { stalledActions, workerActions } from './worker.js'

const KINDS = ['step', 'time', 'fault'] as const

/** All that may happen next, in a fixed order: what processes do, then what takes time, then what goes wrong. */
export function actionsOf(setting: Setting, agent: Agent, model: Model): Action[] {
  const actions = [
    ...dispatcherActions(setting, model),
    ...stalledActions(model),
    ...workerActions(setting, agent, model),
    ...batchActions(setting, agent, model),
    ...appActions(setting, model),
    ...cancellerActions(setting, model),
    ...outsideActions(setting, model),
    ...lateCopyActions(setting, model),
    ...timeActions(setting, agent, model),
  ]
  return KINDS.flatMap((kind) => actions.filter((action) => action.kind === kind))
}

/** The same, without orders that no process can tell from others. */
export function differentActionsOf(setting: Setting, agent: Agent, model: Model): Action[] {
  const actions = actionsOf(setting, agent, model)
  const { deaths, stops, cancels } = model.budget
  const unseen = deaths + stops + cancels > 0 ? undefined : actions.find((action) => action.unseen)
  return unseen === undefined ? actions : [unseen]
}
