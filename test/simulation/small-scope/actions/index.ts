import type { Agent } from '../agent.js'
import type { Model } from '../model.js'
import type { Action, Setting } from '../setting.js'
import { appActions } from './app.js'
import { dispatcherActions } from './dispatcher.js'
import { lateCopyActions } from './script-call.js'
import { timeActions } from './time.js'
import { stalledActions, workerActions } from './worker.js'

/** All that may happen next, in a fixed order. */
export function actionsOf(setting: Setting, agent: Agent, model: Model): Action[] {
  return [
    ...appActions(setting, model),
    ...workerActions(setting, agent, model),
    ...stalledActions(model),
    ...dispatcherActions(setting, model),
    ...lateCopyActions(setting, model),
    ...timeActions(setting, agent, model),
  ]
}
