import type { FaultKind } from '../oracles/facts.js'
import type { Random } from '../world/random.js'
import { WAYS_TO_REFUSE } from '../world/server.js'
import type { FleetSpec } from './spec.js'

/** When a fault happens: at a time since the beginning, or when Redis has done the nth command of this name (`*`: of any) of a process. */
export type Trigger = { readonly atMs: number } | { readonly process: string; readonly command: string; readonly nth: number }

/** One fault, as data: seeds draw them, scenarios write them down. */
export interface PlannedFault {
  readonly kind: FaultKind
  readonly trigger: Trigger
  /** Whom it happens to; left out: a process, call, queue or agent that is drawn when it happens. */
  readonly process?: string
  readonly queue?: string
  readonly agent?: string
  /** How long it lasts, where it lasts. */
  readonly forMs?: number
  /** By how much: a clock's step and what a failover forgets, in ms (Infinity: everything); a factor of limits or usage; a Retry-After in ms; for a Redis away 1 where it stands still; the way in which Redis refuses writes; the calls that are cancelled at once. */
  readonly by?: number
}

/** Faults come while the fleet works. */
const FIRST_MS = 500
const LAST_MS = 9000

/** What a process has just done when it dies, where it is nothing in particular (`*`). */
const DEATHS_AFTER = ['*', '*', 'enqueue', 'dispatch', 'start', 'settle', 'reconcile_passes', 'finish', 'addStandardJob', 'addDelayedJob', 'promote'] as const

type Drawn = Omit<FleetSpec, 'faults'>

/** Draws the faults of one kind. */
export function drawFaults(kind: FaultKind, random: Random, fleet: Drawn): PlannedFault[] {
  const at = (): Trigger => ({ atMs: random.between(FIRST_MS, LAST_MS) })
  const times = (most: number, draw: () => PlannedFault) => Array.from({ length: 1 + random.int(most) }, draw)
  switch (kind) {
    case 'death':
      return times(3, () => {
        const process = random.pick([...fleet.workers, ...fleet.apps]).name
        const command = random.pick(DEATHS_AFTER)
        return { kind, process, trigger: { process, command, nth: command === '*' ? 15 + random.int(400) : 1 + random.int(20) } }
      })
    case 'stop':
      return times(2, () => ({
        kind,
        process: random.pick(fleet.workers).name,
        trigger: at(),
        forMs: random.chance(0.5) ? random.between(50, 1500) : random.between(2500, 14_000),
      }))
    case 'cut':
      return times(10, () => ({ kind, trigger: at() }))
    case 'repeated send':
      return times(6, () => {
        const process = random.pick([...fleet.workers, ...fleet.apps]).name
        const command = random.pick(['start', 'enqueue', 'dispatch', 'settle', 'release', '*', '*'])
        return { kind, process, trigger: { process, command, nth: 1 + random.int(command === '*' ? 300 : 40) } }
      })
    case 'failover':
      return [{ kind, trigger: at(), forMs: random.between(0, 400), by: random.chance(0.5) ? random.between(0, 20) : random.between(0, 400) }]
    case 'node clock':
      return times(2, () => ({ kind, process: random.pick([...fleet.workers, ...fleet.apps]).name, trigger: at(), by: random.between(-10_000, 10_000) }))
    case 'redis clock':
      return [{ kind, trigger: at(), by: random.between(-3000, 3000) }]
    case 'function flush':
      return times(2, () => ({ kind, trigger: at() }))
    case 'slow network':
      return [{ kind, trigger: at(), forMs: random.between(1000, 8000), by: random.between(50, 300) }]
    case 'redis refuses writes':
      return [{ kind, trigger: at(), forMs: random.between(200, 4000), by: random.int(WAYS_TO_REFUSE.length) }]
    case 'redis away':
      return [{ kind, trigger: at(), forMs: random.between(200, 6000), by: random.int(2) }]
    case 'rule change':
      return times(4, () => ({ kind, trigger: at() }))
    case 'override':
      return times(2, () => ({ kind, trigger: at(), forMs: random.between(500, 6000), by: random.pick([0.5, 2, 3, Number.POSITIVE_INFINITY]) }))
    case 'pause':
      return [{ kind, trigger: at(), forMs: random.between(500, 6000) }]
    case 'cancel':
      return times(12, () => ({ kind, trigger: at(), by: random.pick([1, 1, 10]) }))
    case 'removed job':
      return times(12, () => ({ kind, trigger: at() }))
    case 'paused queue':
      return [{ kind, queue: random.pick(fleet.queues), trigger: at(), forMs: random.between(1000, 8000) }]
    case 'workerless queue':
      return [{ kind, queue: random.pick(fleet.queues), trigger: { atMs: 0 }, forMs: random.between(3000, 10_000) }]
    case 'agent refuses once':
      return times(4, () => ({ kind, agent: random.pick(fleet.agents), trigger: at(), by: random.pick([0, 100, 1000]) }))
    case 'agent refuses for a while':
      return [{ kind, agent: random.pick(fleet.agents), trigger: at(), forMs: random.between(300, 4000), by: random.pick([0, 200, 1000]) }]
    case 'agent refuses always':
      return [{ kind, trigger: at(), by: random.pick([0, 200]) }]
    case 'odd usage':
      return [{ kind, agent: random.pick(fleet.agents), trigger: at(), forMs: random.between(500, 6000), by: random.pick([0, 1.5, 4]) }]
    default:
      throw new Error(`unknown fault ${kind satisfies never}`)
  }
}
