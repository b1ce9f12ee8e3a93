import type { RuleSpec } from '../../../src/index.js'
import type { PlannedFault } from '../fleet/planned-faults.js'
import type { AppSpec, Feature, FleetSpec, ScriptedRound, WorkerSpec } from '../fleet/spec.js'

/** A fleet with faults at named commands, checked in: it shows one fault, or that something holds. */
export interface Scenario {
  readonly name: string
  /** What happens in it, and what has to hold. */
  readonly about: string
  readonly fleet: FleetSpec
}

interface Given {
  readonly seed?: number
  readonly features?: readonly Feature[]
  readonly rules: readonly RuleSpec[]
  readonly workers?: readonly Partial<WorkerSpec>[]
  /** The script of each app. */
  readonly apps: readonly (readonly ScriptedRound[])[]
  readonly faults?: readonly PlannedFault[]
}

export function scenario(name: string, about: string, { seed = 1, features = [], rules, workers = [{}, {}], apps, faults = [] }: Given): Scenario {
  const fleet: FleetSpec = {
    seed,
    features,
    rules,
    agents: ['a', 'b'],
    orgs: ['x', 'y', 'z'],
    users: ['u1', 'u2', 'u3', 'u4'],
    queues: ['calls'],
    workers: workers.map((given, at) => ({ name: `worker${at + 1}`, queue: 'calls', concurrency: 20, leaseMs: 2000, ...given })),
    apps: apps.map((script, at): AppSpec => ({ name: `app${at + 1}`, queue: 'calls', rounds: 0, meanPauseMs: 0, largestRound: 0, attempts: 1, script })),
    faults,
  }
  return { name, about, fleet }
}
