import type { RuleSpec } from '../../../src/index.js'
import { type Fleet, type Member, sleep } from './fleet.js'

/** The operator: declares the rules, and is there for changes. */
export function startOperator(fleet: Fleet): void {
  const process = fleet.world.process('operator')
  process.start(async () => {
    const member = await fleet.open(process, { rules: fleet.spec.rules })
    fleet.noteLimits()
    fleet.operator = member
  })
}

/**
 * Runs a change by the operator. Where Redis is away the change is refused; it is tried until it is in force, as an operator would.
 * @returns whether the operator is done with it
 */
export function operate(fleet: Fleet, what: string, change: (member: Member) => Promise<void>): { readonly done: boolean } {
  const state = { done: false }
  const { operator } = fleet
  if (operator === undefined) return state
  fleet.inProcess(operator.process, what, async () => {
    for (let tries = 0; tries < 40; tries++) {
      try {
        await change(operator)
        break
      } catch (error) {
        if (!(error instanceof Error) || !('code' in error) || error.code !== 'STORE_UNAVAILABLE') throw error
        await sleep(500)
      }
    }
    state.done = true
  })
  return state
}

/** Makes a rule another one, in Redis and in the facts. */
export function changeRule(fleet: Fleet, name: string, patch: Partial<RuleSpec>): void {
  operate(fleet, `rule ${name} changes`, async ({ tollgate }) => {
    await tollgate.rules.update(name, patch)
    // From what holds now: another change may have come into force meanwhile.
    fleet.rules = fleet.rules.map((rule) => (rule.name === name ? { ...rule, ...patch } : rule))
    fleet.noteLimits()
    fleet.world.note('operator', `rule ${name} is now ${JSON.stringify(fleet.rules.find((rule) => rule.name === name))}`)
  })
}
