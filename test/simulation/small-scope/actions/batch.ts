import type { Agent } from '../agent.js'
import { label, type Model, type Start, type Worker } from '../model.js'
import type { Action, Setting } from '../setting.js'
import { decided } from './attempt.js'
import { sendEnds, settlementOf, tell, told } from './settlement.js'

/**
 * What two workers of one process send in one script call: their starts, which share a ledger, with the ends that are still to be told; or two ends.
 * Nothing of it is repeated: a repeated call is tried alone.
 */
export function batchActions(setting: Setting, agent: Agent, model: Model): Action[] {
  if (!setting.scope.batches) return []
  return [...startsTogether(setting, agent, model), ...endsTogether(setting, model)]
}

function startsTogether(setting: Setting, agent: Agent, model: Model): Action[] {
  const mayStart = ({ phase, start, still, aborted, charged, dueMs = 0 }: Worker) =>
    phase === 'starting' && start !== undefined && !still && !aborted && charged === undefined && dueMs <= model.atMs
  const indexes = [...model.workers.keys()].filter((index) => mayStart(model.workers[index] as Worker))
  const starts = indexes.map((index) => model.workers[index]?.start as Start)
  if (starts.length < 2) return []
  const ledger = `~/${starts.map(({ call, attempt, batch }) => `c${call}.${attempt}.${batch}`).join('+')}`
  const run = async (next: Model) => {
    const ended = indexes.flatMap((index) => {
      const { unsettled } = next.workers[index] as Worker
      if (unsettled === undefined) return []
      tell(next, index)
      return [settlementOf(setting, unsettled)]
    })
    const named = starts.map((start, place) => ({ ...start, ledger, place }))
    const requests = named.map((start) => setting.startRequest(start))
    const decisions = await setting.client(next.rules.workers).start(requests, ended, false)
    for (const [place, index] of indexes.entries()) decided(setting, agent, next, index, named[place] as Start, decisions[place])
  }
  return [{ name: `start ${starts.map(label).join(' and ')} in one call`, kind: 'step', run }]
}

function endsTogether(setting: Setting, model: Model): Action[] {
  const indexes = [...model.workers.keys()].filter((index) => {
    const { unsettled, still, phase } = model.workers[index] as Worker
    return unsettled !== undefined && !still && phase !== 'starting'
  })
  const ends = indexes.map((index) => model.workers[index]?.unsettled as Start)
  if (ends.length < 2) return []
  const run = async (next: Model) => {
    await sendEnds(setting, next, indexes)
    for (const index of indexes) told(next, index)
  }
  return [{ name: `settle ${ends.map(label).join(' and ')} in one call`, kind: 'step', run }]
}
