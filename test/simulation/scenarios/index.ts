import type { FleetSpec } from '../fleet/spec.js'

/** A fleet with faults at named commands, checked in: it shows one fault, or that something holds. */
export interface Scenario {
  readonly name: string
  readonly about: string
  readonly fleet: FleetSpec
}

export const SCENARIOS: readonly Scenario[] = []

export function scenarioNamed(name: string): Scenario {
  const found = SCENARIOS.find((one) => one.name === name)
  if (found === undefined) throw new Error(`no scenario ${name}; there are ${SCENARIOS.map((one) => one.name).join(', ')}`)
  return found
}
