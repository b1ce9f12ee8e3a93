import { EPOCH_MS } from '../world/server.js'
import { actionsOf } from './actions/index.js'
import type { Agent } from './agent.js'
import { FAIR } from './explore.js'
import { FairCompletion } from './fair.js'
import type { Model } from './model.js'
import type { Setting } from './setting.js'
import { firstState, modelOf, perform, type State } from './state.js'

/** What stands between the names of actions in a path. */
export const THEN = ' > '

export interface Replay {
  readonly reports: readonly string[]
  /** Whether every action of the path was possible where it came. */
  readonly possible: boolean
}

/** Goes one path once more. @param tell gets the state after each step, readable */
export async function replay(setting: Setting, agent: Agent, path: readonly string[], tell?: (text: string) => void): Promise<Replay> {
  let state = firstState(setting)
  const reports: string[] = []
  const show = async (name: string, after: State, found: readonly string[]) => {
    if (tell !== undefined) tell([name, ...found.map((text) => `  !! ${text}`), ...(await describe(setting, after))].join('\n'))
  }
  for (const name of path) {
    if (name === FAIR) {
      const fair = new FairCompletion(setting, agent)
      const found = await fair.complete(state, tell === undefined ? undefined : (step, after) => show(`fair: ${step}`, after, []))
      tell?.(found.map((text) => `  !! ${text}`).join('\n'))
      return { reports: [...reports, ...found], possible: true }
    }
    const actions = actionsOf(setting, agent, modelOf(state))
    const action = actions.find((one) => one.name === name)
    if (action === undefined) {
      tell?.(`"${name}" cannot happen here; there are ${actions.map((one) => one.name).join(', ')}`)
      return { reports, possible: false }
    }
    const { after, reports: found } = await perform(setting, action, state)
    reports.push(...found)
    state = after
    await show(name, state, found)
  }
  return { reports, possible: true }
}

/** The state in a few lines: model, lines and passes, records, meters. */
async function describe(setting: Setting, state: State): Promise<string[]> {
  const model = modelOf(state)
  setting.at(state.redis, model.atMs)
  const keys = ((await setting.states.read('KEYS', '*')) as string[]).sort()
  const sets = keys.filter((key) => /\/(l|s)\/|\/(passes|lines|deadlines)$/.test(key))
  const records = keys.filter((key) => key.includes('/c/calls/'))
  const lines = [`  at ${model.atMs}  ${modelText(model)}`]
  for (const key of sets) {
    const members = (await setting.states.read('ZRANGE', key, 0, -1, 'WITHSCORES')) as [string, number][]
    lines.push(`  ${short(key)}: ${members.map(([member, score]) => `${short(member)} at ${Math.round((score - EPOCH_MS) * 1000) / 1000}`).join(', ')}`)
  }
  for (const key of records) {
    const record = ((await setting.states.read('GET', key)) as string).split('\n')[0] as string
    lines.push(`  ${short(key)}: ${short(record.replaceAll(/18\d{11}(\.\d+)?/g, (time) => String(Math.round((Number(time) - EPOCH_MS) * 1000) / 1000)))}`)
  }
  const ledgers = keys.filter((key) => key.includes('/g/'))
  if (ledgers.length > 0) lines.push(`  open ledgers: ${ledgers.map(short).join(', ')}`)
  return [...lines, `  ${await usageText(setting, model)}`]
}

function short(text: string): string {
  return text.replaceAll(/\{tollgate:n\}\//g, '/')
}

async function usageText(setting: Setting, model: Model): Promise<string> {
  const usages = new Map<string, string>()
  for (const call of model.calls.keys()) {
    const [decision] = await setting.client(model.rules.inForce).peek([setting.request(call, model.rules.inForce)])
    for (const { rule, limit, scopeValue, used, claimed } of decision?.usage ?? [])
      usages.set(`${rule}/${limit} ${scopeValue}`, `${Math.round(used * 1000) / 1000}${claimed > 0 ? ` + ${claimed} claimed` : ''}`)
  }
  return [...usages].map(([name, used]) => `${name}: ${used}`).join('   ')
}

function modelText({ calls, jobs, workers, dispatcher, runs, canceller }: Model): string {
  const all = calls.map(({ state }, call) => `c${call} ${state}, job ${JSON.stringify(jobs[call]).replaceAll('"', '')}`)
  const working = workers.map((worker) => JSON.stringify(worker).replaceAll('"', ''))
  return `${all.join('; ')}  workers ${working.join(' ')}  dispatcher ${dispatcher.phase}  runs ${runs.length}${canceller.phase === 'idle' ? '' : `  cancel ${canceller.phase}`}`
}
