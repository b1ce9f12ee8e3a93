import { createHash } from 'node:crypto'
import { label, type Model, textOf } from './model.js'
import { contains, type RedisState, redisFingerprint } from './redis-states.js'
import type { Action, Setting } from './setting.js'

/** A state of the whole: the model, as text, and the keys in Redis. */
export interface State {
  readonly model: string
  readonly redis: RedisState
}

export function firstState(setting: Setting): State {
  return { model: textOf(setting.firstModel()), redis: [] }
}

export function modelOf({ model }: State): Model {
  return JSON.parse(model) as Model
}

/** Equal for equal states of one exploration. */
export function fingerprint({ model, redis }: State): string {
  return createHash('sha1').update(model).update(redisFingerprint(redis)).digest('base64')
}

/** The same for states from which the same goes on where nothing fails any more. */
export function fairFingerprint(state: State): string {
  const { budget: _, ...model } = modelOf(state)
  return fingerprint({ model: JSON.stringify(model), redis: state.redis })
}

/** @returns the state after an action, and what the checks found on the way */
export async function perform(setting: Setting, action: Action, before: State): Promise<{ after: State; reports: string[] }> {
  const model = modelOf(before)
  setting.at(before.redis, model.atMs, model)
  try {
    await action.run(model)
    await writeJobs(setting, modelOf(before), model)
  } catch (error) {
    setting.report(errorText(error))
  }
  const after = { model: textOf(model), redis: setting.states.end() }
  if (after.redis !== before.redis) reportLostSlots(setting, action, before, model, after.redis)
  return { after, reports: setting.takeReports() }
}

export function errorText(error: unknown): string {
  return `error: ${error instanceof Error ? error.message.slice(0, 200) : String(error)}`
}

/** Brings the jobs in Redis, which scripts look at, to those of the model. */
async function writeJobs(setting: Setting, { jobs: before }: Model, { jobs }: Model): Promise<void> {
  for (const [call, { state }] of jobs.entries()) {
    const was = before[call]?.state
    if (state === was) continue
    const key = setting.keys.job(setting.idOf(call))
    if (state === 'removed') await setting.states.write('DEL', key)
    else if (was === 'none' || was === 'removed') await setting.states.write('HSET', key, 'timestamp', 1)
    if (state === 'done' || state === 'failed') await setting.states.write('HSET', key, 'finishedOn', 1)
  }
}

/** A run that goes on, and whose worker has renewed its slot in time, keeps it. */
function reportLostSlots(setting: Setting, { name, kind }: Action, before: State, { runs, atMs }: Model, redis: RedisState): void {
  if (kind === 'time') return
  for (const run of runs) {
    if (run.leaseEndsMs <= atMs) continue
    const slot = run.ledger === undefined ? setting.ledgersOf(run) : setting.client(run.rules).nameOfStart(setting.startRequest(run))
    for (const { key } of setting.slotsOf(run.call, run.rules)) {
      if (contains(before.redis, key, slot) && !contains(redis, key, slot)) setting.report(`slot: "${name}" frees the slot of ${label(run)}, which runs`)
    }
  }
}
