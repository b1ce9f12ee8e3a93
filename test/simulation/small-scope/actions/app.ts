import type { Decision } from '../../../../src/model/decision.js'
import type { BareDecision } from '../../../../src/store/redis/decoder.js'
import { type AppCall, type Model, PASS_GRACE_MS } from '../model.js'
import { checkNewcomer } from '../order.js'
import type { Action, Setting } from '../setting.js'
import { scriptCall } from './script-call.js'

/** What apps do: each enqueues one call after the other: asks the front door, then adds the job as decided. */
export function appActions(setting: Setting, model: Model): Action[] {
  const actions: Action[] = []
  for (const [call, { state }] of model.calls.entries()) {
    if (model.appsUp[setting.appOf(call)] !== true) continue
    const before = model.calls[call - setting.scope.apps]?.state
    if (state === 'new' && before !== 'new' && before !== 'decided') {
      const enqueue = {
        name: `enqueue c${call}`,
        send: (next: Model) => setting.client(next.rules.app).enqueue([setting.request(call, next.rules.app)], setting.queue),
        apply: (next: Model, [decision]: readonly (Decision | BareDecision)[]) => decided(setting, next, call, decision),
      }
      actions.push(...scriptCall(setting, model, enqueue))
    }
    if (state === 'decided') actions.push({ name: `add c${call}`, kind: 'step', run: (next) => add(next, call) })
  }
  if (model.budget.deaths > 0 && setting.scope.mortal.includes('app')) actions.push(...deaths(setting, model))
  return actions
}

function deaths(setting: Setting, model: Model): Action[] {
  const isBusy = (app: number) => model.calls.some(({ state }, call) => setting.appOf(call) === app && (state === 'new' || state === 'decided'))
  return model.appsUp.flatMap((isUp, app): Action[] =>
    isUp && isBusy(app) ? [{ name: setting.scope.apps === 1 ? 'the app dies' : `app ${app} dies`, kind: 'fault', run: (next) => die(setting, next, app) }] : [],
  )
}

function decided(setting: Setting, model: Model, call: number, decision: Decision | BareDecision | undefined): void {
  const appCall = model.calls[call] as AppCall
  if (decision === undefined || decision.outcome === 'reject' || decision.outcome === 'expired') {
    appCall.state = 'refused'
    return
  }
  if (decision.outcome === 'run' && setting.scope.rules.length === 1) checkNewcomer(setting, call)
  appCall.state = 'decided'
  appCall.delayMs = decision.outcome === 'wait' ? setting.program.delayMs(decision.etaMs) : 0
  appCall.decidedAtMs = model.atMs
}

function add(model: Model, call: number): void {
  const appCall = model.calls[call] as AppCall
  const { delayMs = 0, decidedAtMs = 0 } = appCall
  appCall.state = 'added'
  if (model.atMs - decidedAtMs > PASS_GRACE_MS) appCall.slow = true
  delete appCall.delayMs
  delete appCall.decidedAtMs
  model.jobs[call] = delayMs > 0 ? { state: 'delayed', untilMs: model.atMs + delayMs } : { state: 'wait' }
}

function die(setting: Setting, model: Model, app: number): void {
  model.budget.deaths--
  model.appsUp[app] = false
  for (const [index, call] of model.calls.entries()) {
    if (setting.appOf(index) !== app) continue
    delete call.delayMs
    delete call.decidedAtMs
    if (call.state === 'decided') call.state = 'ghost'
    if (call.state === 'new') call.state = 'never'
  }
}
