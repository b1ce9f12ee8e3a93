import { Random } from '../world/random.js'
import { differentActionsOf } from './actions/index.js'
import type { Agent } from './agent.js'
import { FairCompletion } from './fair.js'
import type { Setting } from './setting.js'
import { fingerprint, firstState, modelOf, perform, type State } from './state.js'

/** How a state was reached. */
interface Step {
  readonly name: string
  readonly before: Step | undefined
}

export interface Finding {
  readonly text: string
  /** The names of the actions that lead there. */
  readonly path: readonly string[]
  readonly times: number
}

export interface Exploration {
  readonly states: number
  readonly transitions: number
  readonly complete: boolean
  readonly fairCompletions: number
  readonly findings: readonly Finding[]
}

export interface Bounds {
  readonly maxStates: number
  /** Whether what was found ends the exploration. */
  isEnough(text: string): boolean
}

/** How often an exploration goes on somewhere else: one that is not completed would otherwise see one corner alone. */
const ELSEWHERE = 0.05

/** The last name of the path to something that was found in a fair completion. */
export const FAIR = 'fair completion'

/**
 * Tries all that may happen, depth first, each state once. Where a state leaves nothing to do but to let time pass, it is completed fairly as well: that
 * shows what never comes to an end.
 */
export async function explore(setting: Setting, agent: Agent, { maxStates, isEnough }: Bounds): Promise<Exploration> {
  const random = new Random('small scope')
  const findings = new Map<string, Finding>()
  let enough = false
  const note = (reports: readonly string[], step: Step) => {
    for (const text of reports) {
      enough ||= isEnough(text)
      const known = findings.get(text)
      findings.set(text, known === undefined ? { text, path: pathOf(step), times: 1 } : { ...known, times: known.times + 1 })
    }
  }
  const fair = new FairCompletion(setting, agent)
  const root = firstState(setting)
  const seen = new Set([fingerprint(root)])
  const stack: { state: State; step: Step | undefined }[] = [{ state: root, step: undefined }]
  let transitions = 0
  while (stack.length > 0 && seen.size < maxStates && !enough) {
    if (random.chance(ELSEWHERE)) swapWithLast(stack, random.int(stack.length))
    const { state, step } = stack.pop() as (typeof stack)[number]
    const print = fingerprint(state)
    const next: typeof stack = []
    let atRest = true
    // What uses a budget up comes last, and so is explored first: that leads to small subtrees, and soon to what only a fault shows.
    for (const action of differentActionsOf(setting, agent, modelOf(state))) {
      transitions++
      const then = { name: action.name, before: step }
      const { after, reports } = await perform(setting, action, state)
      note(reports, then)
      const afterPrint = fingerprint(after)
      if (action.kind === 'step' && afterPrint !== print) atRest = false
      if (seen.has(afterPrint)) continue
      seen.add(afterPrint)
      next.push({ state: after, step: then })
    }
    if (atRest) note(await fair.complete(state), { name: FAIR, before: step })
    stack.push(...next)
  }
  return { states: seen.size, transitions, complete: stack.length === 0, fairCompletions: fair.completions, findings: [...findings.values()] }
}

function swapWithLast(list: unknown[], at: number): void {
  const last = list.length - 1
  ;[list[at], list[last]] = [list[last], list[at]]
}

function pathOf(step: Step): string[] {
  const names: string[] = []
  for (let at: Step | undefined = step; at !== undefined; at = at.before) names.push(at.name)
  return names.reverse()
}
