import type { Decision } from '../../../../src/model/decision.js'
import type { BareDecision } from '../../../../src/store/redis/decoder.js'
import type { Agent } from '../agent.js'
import { type AppCall, holdsLock, label, type Model, type Start, type Worker } from '../model.js'
import type { Action, Setting } from '../setting.js'
import { scriptCall } from './script-call.js'
import { settlementOf, tell, told } from './settlement.js'

type StartDecision = Decision | BareDecision | undefined

/** What the attempt of a worker does next. */
export function attemptActions(setting: Setting, agent: Agent, model: Model, index: number): Action[] {
  const { phase, start, dueMs = 0, delayMs = 0, aborted, charged } = model.workers[index] as Worker
  if (start === undefined || dueMs > model.atMs) return []
  const name = label(start)
  const step = (what: string, run: (next: Model) => void): Action[] => [{ name: `${what} ${name}`, kind: 'step', run }]
  const become = (next: Model, worker: Worker) => replace(next, index, worker)
  switch (phase) {
    case 'idle':
      return []
    case 'starting':
    case 'starting again':
      if (aborted && charged === undefined) return step('give up', (next) => become(next, { phase: 'failing', start }))
      return scriptCall(setting, model, {
        name: `start ${name}`,
        send: (next) => send(setting, next, index, start),
        apply: (next, decision) => decided(setting, agent, next, index, start, decision),
        lost: (next, decision) => lost(agent, next, index, start, decision),
      })
    case 'running':
      return [
        ...step('end', (next) => {
          agent.end(next, start)
          next.workers[index] = { phase: aborted ? 'failing' : 'completing', start, unsettled: start }
        }),
        ...(model.budget.refusals > 0 && !aborted ? [refusal(setting, agent, index, start)] : []),
      ]
    case 'reporting':
      return scriptCall(setting, model, {
        name: `report the refusal of ${name}`,
        send: (next) => {
          tell(next, index, 'released')
          return report(setting, start)
        },
        apply: (next, blockedMs) => {
          told(next, index)
          become(next, { phase: 'delaying', start, delayMs: setting.program.delayMs(blockedMs) })
        },
      })
    case 'delaying':
      if (aborted) return step('do not put back', (next) => become(next, { phase: 'leaving', start }))
      return step('put back', (next) => {
        if (holdsLock(next, start)) next.jobs[start.call] = { state: 'delayed', untilMs: next.atMs + delayMs }
        become(next, { phase: 'idle' })
      })
    case 'leaving':
      return scriptCall(setting, model, {
        name: `release ${name}`,
        send: (next) => setting.program.leave(setting.client(next.rules.workers), setting.attemptRequest(start)),
        apply: (next) => become(next, { phase: 'failing', start }),
      })
    case 'completing':
    case 'failing':
      return step(phase === 'completing' ? 'complete' : 'fail', (next) => {
        if (holdsLock(next, start)) next.jobs[start.call] = { state: phase === 'completing' ? 'done' : 'failed' }
        become(next, { phase: 'idle' })
      }).map((action) => ({ ...action, unseen: true }))
    default:
      return phase satisfies never
  }
}

/** The worker's next phase. It keeps the end that is still to be told, and that its call was cancelled. */
function replace(model: Model, index: number, next: Worker): void {
  const { unsettled, told: isTold, aborted } = model.workers[index] as Worker
  model.workers[index] = {
    ...next,
    ...(unsettled === undefined ? {} : { unsettled }),
    ...(isTold === undefined ? {} : { told: isTold }),
    ...(aborted === undefined || next.start === undefined ? {} : { aborted }),
  }
}

/** Sends a start, and with it the end of the worker's last run where Redis has not been told. */
async function send(setting: Setting, model: Model, index: number, start: Start): Promise<StartDecision> {
  const { phase, unsettled } = model.workers[index] as Worker
  const again = phase === 'starting again'
  const ended = unsettled === undefined || again ? [] : [settlementOf(setting, unsettled)]
  if (ended.length > 0) tell(model, index)
  const [decision] = await setting.client(start.rules).start([setting.startRequest(start)], ended, again, setting.senderOf(start))
  return decision
}

function lost(agent: Agent, model: Model, index: number, start: Start, decision: StartDecision): void {
  const worker = model.workers[index] as Worker
  if (decision?.outcome !== 'run' || worker.charged !== undefined) return
  charge(agent, model, start)
  model.workers[index] = { ...worker, charged: { atMs: model.atMs } }
}

function charge(agent: Agent, model: Model, start: Start): void {
  model.ledger.opened++
  agent.charge(model, start)
}

/** What a worker makes of the decision on its start. */
export function decided(setting: Setting, agent: Agent, model: Model, index: number, start: Start, decision: StartDecision): void {
  const { phase, charged } = model.workers[index] as Worker
  if (phase === 'starting') told(model, index)
  if (decision?.outcome === 'run') begin(setting, agent, model, start, charged?.atMs)
  else if (charged !== undefined) setting.report(`twice: a start that was charged is answered "${decision?.outcome}" when it is sent again`)
  replace(model, index, afterDecision(setting, model.atMs, start, decision))
}

/** The call reaches its agent. @param chargedAtMs when it was charged, where the reply to that was lost */
function begin(setting: Setting, agent: Agent, model: Model, start: Start, chargedAtMs: number | undefined): void {
  if (chargedAtMs === undefined) charge(agent, model, start)
  const appCall = model.calls[start.call] as AppCall
  appCall.starts++
  if (appCall.starts > 1 + appCall.excuses) setting.report('twice: a call starts again without a reason')
  if (['done', 'failed', 'removed'].includes(model.jobs[start.call]?.state ?? '')) setting.report('twice: a call starts whose job has ended')
  agent.begin(model, start, chargedAtMs ?? model.atMs)
}

function afterDecision({ scope, program }: Setting, atMs: number, sent: Start, decision: StartDecision): Worker {
  const { ledger: _ledger, place: _place, ...start } = sent
  // Each send that is not answered with a run is followed by one of a new name. Without repeats no two names of an attempt can meet.
  const next = scope.budget.repeats > 0 ? { ...start, batch: start.batch + 1 } : start
  switch (decision?.outcome) {
    case 'run':
      return { phase: 'running', start: 'watched' in decision ? { ...sent, watched: true } : sent, dueMs: atMs + scope.runMs }
    case 'hold':
      return { phase: 'starting', start: next, dueMs: atMs + Math.max(1, decision.waitMs) }
    case 'again':
      return { phase: 'starting again', start: next }
    case 'lost':
      return { phase: 'idle' }
    case 'wait':
      return { phase: 'delaying', start, delayMs: program.delayMs(decision.etaMs) }
    default:
      return { phase: 'failing', start }
  }
}

/** The agent answers 429: the run cost it nothing. */
function refusal(setting: Setting, agent: Agent, index: number, start: Start): Action {
  return {
    name: `the agent refuses ${label(start)}`,
    kind: 'fault',
    run: (model) => {
      model.budget.refusals--
      ;(model.calls[start.call] as AppCall).excuses++
      agent.end(model, start)
      agent.takeBack(model, start)
      model.agentBlockedUntilMs = model.atMs + setting.scope.retryAfterMs
      replace(model, index, { phase: 'reporting', start })
    },
  }
}

/** As `SendBack` reports it: the call returns to the head of its line. @returns in how many ms it is tried again */
async function report(setting: Setting, start: Start): Promise<number> {
  const { upstream, retryAfterMs } = setting.scope
  const request = setting.startRequest(start)
  const { agent, endpoint, model } = request.call
  const name = { agent, endpoint, model }
  const refusal = { kind: 'refused', retryAfterMs, reduceFactor: upstream.reduceFactor, name, observed: null } as const
  const { waitMs } = await setting.client(start.rules).returnCall(request, refusal, Number.MAX_SAFE_INTEGER)
  return waitMs
}
