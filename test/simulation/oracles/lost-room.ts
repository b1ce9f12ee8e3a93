import { type AgentLimit, fullAt } from './agent-limits.js'
import type { Form } from './facts.js'
import type { WaitingCosts } from './ideal-line.js'

/** A time in which calls waited for a limit: what the limit allowed in it, and what of that flowed over. */
export interface Backlog {
  readonly fromMs: number
  readonly toMs: number
  readonly allowed: number
  readonly lost: number
}

/** The windows over which what was lost is judged. */
const JUDGED_MS = 60_000
/** A shorter backlog says more about the way to the worker than about the line. */
const SHORTEST_MS = 2000
/** Steps closer than this are one backlog. */
const GAP_MS = 1

/** Adds up the room of one limit that nothing used while calls waited that could have. */
export class LostRoom {
  private readonly parts: Backlog[] = []
  /** What has flowed over since the bucket was not full last. */
  private flowedOver = 0

  constructor(readonly meter: string) {}

  /** @param costs of the calls that could start, and do not, and of all that wait */
  add(form: Form, limit: AgentLimit, fromMs: number, toMs: number, { due, all }: WaitingCosts): void {
    const perMs = ratePerMs(form)
    let lost = due > 0 ? lostRoom(form, limit, fromMs, toMs, due) : 0
    if (fullAt(limit, fromMs) > fromMs) this.flowedOver = 0
    // Of a full bucket calls that wait lose what they would have taken, once, however long they wait.
    else lost = Math.max(0, Math.min(lost, all - this.flowedOver))
    this.flowedOver += lost
    this.parts.push({ fromMs, toMs, allowed: perMs * (toMs - fromMs), lost })
  }

  /** The worst minute of each backlog, or all of it where it is shorter. */
  worst(): Backlog[] {
    return this.backlogs().flatMap((parts) => {
      const worst = worstWindow(parts)
      return worst.toMs - worst.fromMs < SHORTEST_MS ? [] : [worst]
    })
  }

  private backlogs(): Backlog[][] {
    const backlogs: Backlog[][] = []
    let last: Backlog | undefined
    for (const part of this.parts) {
      if (last !== undefined && part.fromMs - last.toMs <= GAP_MS) backlogs.at(-1)?.push(part)
      else backlogs.push([part])
      last = part
    }
    return backlogs
  }
}

function worstWindow(parts: readonly Backlog[]): Backlog {
  let first = 0
  let allowed = 0
  let lost = 0
  let worst: Backlog | undefined
  for (const [index, part] of parts.entries()) {
    allowed += part.allowed
    lost += part.lost
    while (first < index && part.toMs - (parts[first + 1] as Backlog).fromMs >= JUDGED_MS) {
      const gone = parts[first++] as Backlog
      allowed -= gone.allowed
      lost -= gone.lost
    }
    const window = { fromMs: (parts[first] as Backlog).fromMs, toMs: part.toMs, allowed, lost }
    const isWhole = window.toMs - window.fromMs >= JUDGED_MS || index === parts.length - 1
    if (isWhole && (worst === undefined || lost / allowed > worst.lost / worst.allowed)) worst = window
  }
  return worst as Backlog
}

/** What a limit allows in a ms: of slots the time that they can be held. */
function ratePerMs(form: Form): number {
  switch (form.kind) {
    case 'bucket':
    case 'leaky bucket':
      return form.perSecond / 1000
    case 'fixed window':
    case 'sliding log':
    case 'sliding window':
      return form.limit / form.windowMs
    case 'slots':
      return form.slots
    default:
      return form satisfies never
  }
}

function lostRoom(form: Form, limit: AgentLimit, fromMs: number, toMs: number, due: number): number {
  const room = Math.max(0, Math.min(due, limit.room(fromMs)))
  switch (form.kind) {
    case 'bucket':
    case 'leaky bucket':
      return (Math.max(0, toMs - Math.max(fromMs, fullAt(limit, fromMs))) * form.perSecond) / 1000
    case 'fixed window':
      return Math.floor(toMs / form.windowMs) > Math.floor(fromMs / form.windowMs) ? room : 0
    case 'sliding log':
    case 'sliding window':
      return (room * (toMs - fromMs)) / form.windowMs
    case 'slots':
      return room * (toMs - fromMs)
    default:
      return form satisfies never
  }
}
