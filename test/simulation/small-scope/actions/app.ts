import type { AppCall, Model } from '../model.js'
import type { Action, Setting } from '../setting.js'

/** What the app does: it enqueues one call after the other: asks the front door, then adds the job as decided. */
export function appActions(setting: Setting, model: Model): Action[] {
  if (!model.appIsUp) return []
  const actions: Action[] = []
  for (const [call, { state }] of model.calls.entries()) {
    const before = model.calls[call - 1]?.state
    if (state === 'new' && before !== 'new' && before !== 'decided') actions.push({ name: `enqueue c${call}`, kind: 'step', run: (next) => enqueue(setting, next, call) })
    if (state === 'decided') actions.push({ name: `add c${call}`, kind: 'step', run: (next) => add(next, call) })
  }
  const busy = model.calls.some(({ state }) => state === 'new' || state === 'decided')
  if (busy && model.budget.deaths > 0) actions.push({ name: 'app dies', kind: 'fault', run: die })
  return actions
}

async function enqueue(setting: Setting, model: Model, call: number): Promise<void> {
  const [decision] = await setting.client(model.rules.app).enqueue([setting.request(call, model.rules.app)])
  const appCall = model.calls[call] as AppCall
  switch (decision?.outcome) {
    case 'run':
    case 'hold':
    case 'degrade':
      Object.assign(appCall, { state: 'decided', delayMs: 0 })
      return
    case 'wait':
      Object.assign(appCall, { state: 'decided', delayMs: setting.program.delayMs(decision.etaMs) })
      return
    default:
      appCall.state = 'refused'
  }
}

function add(model: Model, call: number): void {
  const appCall = model.calls[call] as AppCall
  const delayMs = appCall.delayMs ?? 0
  appCall.state = 'added'
  delete appCall.delayMs
  model.jobs[call] = delayMs > 0 ? { state: 'delayed', untilMs: model.atMs + delayMs } : { state: 'wait' }
}

function die(model: Model): void {
  model.budget.deaths--
  model.appIsUp = false
  for (const call of model.calls) {
    delete call.delayMs
    if (call.state === 'decided') call.state = 'ghost'
    if (call.state === 'new') call.state = 'never'
  }
}
