import type { MeterRef, Settlement } from '../../../../src/admission/request.js'
import { type ActualCosts, AS_ESTIMATED } from '../../../../src/model/cost.js'
import { label, type Model, type Start, type Worker } from '../model.js'
import type { Action, Setting } from '../setting.js'
import { scriptCall } from './script-call.js'

/** The end of a run, told by a script call of its own. Once the worker has the next job, the end travels with its start: see `attempt.ts`. */
export function settlementActions(setting: Setting, model: Model, index: number): Action[] {
  const { unsettled, phase } = model.workers[index] as Worker
  if (unsettled === undefined || phase === 'starting') return []
  return scriptCall(setting, model, {
    name: `settle ${label(unsettled)}`,
    send: (next) => sendEnds(setting, next, [index]),
    apply: (next) => told(next, index),
  })
}

/** Tells the ends of some workers. An entry is open until its end is told, and no longer. */
export async function sendEnds(setting: Setting, model: Model, indexes: readonly number[]): Promise<void> {
  const workers = indexes.map((index) => model.workers[index] as Worker)
  const settled = await setting.client(model.rules.workers).settle(workers.map(({ unsettled }) => settlementOf(setting, unsettled as Start)))
  for (const [at, { told: before }] of workers.entries()) {
    if (before && settled[at] === true) setting.report('twice: an end that is told a second time finds its entry open')
    if (!before && settled[at] !== true) setting.report('sums: an end that is told the first time finds no open entry')
  }
  for (const index of indexes) tell(model, index)
}

/** An end is on its way to Redis. Its ledger entry is closed once, however often the end is sent. */
export function tell(model: Model, index: number, how: 'settled' | 'released' = 'settled'): void {
  const worker = model.workers[index] as Worker
  if (worker.told === undefined) model.ledger[how]++
  model.workers[index] = { ...worker, told: true }
}

/** Redis has answered: the worker forgets the end. */
export function told(model: Model, index: number): void {
  const { unsettled: _unsettled, told: _told, ...worker } = model.workers[index] as Worker
  model.workers[index] = worker
}

/** The settlement as `StartBatcher` sends it: without the meters that it cannot change. */
export function settlementOf(setting: Setting, start: Start): Settlement {
  const request = setting.startRequest(start)
  const actual: ActualCosts = { ...AS_ESTIMATED, ...setting.scope.actual?.[start.call] }
  const matters = ({ rule }: MeterRef) =>
    rule.kind === 'upstream'
      ? start.watched === true
      : rule.limits.some(({ unit }) => unit === 'concurrency' || (actual[unit] ?? request.costs[unit]) !== request.costs[unit])
  return { actual, request: { ...request, meters: request.meters.filter(matters) } }
}
