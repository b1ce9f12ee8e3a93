import { limitsOver, type MetersDuring, type Version } from './coverage.js'
import type { AnsweredFact, AskedFact, ChargedFact, EndedFact, Fact, FaultFact, FaultKind, QueueFact, ResultFact, StartedFact, WorkerFact } from './facts.js'

/** One run of a call, as its agent saw it. */
export interface Run {
  readonly story: Story
  readonly started: StartedFact
  /** By the true clock, also where Redis' clock was set; undefined: no fact tells it. */
  readonly chargedMs: number | undefined
  readonly degraded: boolean
  readonly ended: EndedFact | undefined
  /** When its process died, where that happened before it was done with the run. */
  readonly diedMs: number | undefined
}

/** A call from the first question to the last answer. */
export interface Story {
  readonly id: string
  readonly asked: AskedFact
  readonly answered: AnsweredFact | undefined
  /** By the time of their start. */
  readonly runs: readonly Run[]
  readonly results: readonly ResultFact[]
  /** What was done to this call in particular. */
  readonly faults: readonly FaultFact[]
  /** Its place among all calls: higher priorities first, of equal ones the call that was asked for first. */
  readonly rank: number
}

/** All facts of a run of the fleet, found by call, run, process and time. */
export interface History {
  readonly facts: readonly Fact[]
  readonly stories: ReadonlyMap<string, Story>
  readonly runs: readonly Run[]
  readonly versions: readonly Version[]
  readonly faults: readonly FaultFact[]
  readonly workers: readonly WorkerFact[]
  readonly queues: readonly QueueFact[]
  /** Runs of calls that no app asked for. */
  readonly strays: readonly StartedFact[]
  readonly endMs: number
  /** When a process died; Infinity for a process that lives. */
  diedMs(process: string): number
  readonly metersDuring: MetersDuring
}

/** Priorities age: a step of priority is worth a minute of waiting. */
const PRIORITY_STEP_MS = 60_000

function byTime<T extends { readonly atMs: number }>(facts: readonly T[]): T[] {
  return [...facts].sort((a, b) => a.atMs - b.atMs)
}

function ofKind<K extends Fact['fact']>(facts: readonly Fact[], kind: K): Extract<Fact, { fact: K }>[] {
  return byTime(facts.filter((fact): fact is Extract<Fact, { fact: K }> => fact.fact === kind))
}

function group<T extends { readonly call: string }>(facts: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const fact of facts) {
    const group = groups.get(fact.call)
    if (group === undefined) groups.set(fact.call, [fact])
    else group.push(fact)
  }
  return groups
}

/**
 * The true time of a charge. Tollgate tells it by Redis' clock, so what that clock was set by before has to come off; around the step itself, the
 * reading is taken that lies before the start.
 */
function trueChargeMs(charged: ChargedFact, startedMs: number, steps: readonly FaultFact[]): number {
  let offset = 0
  let best = charged.atMs
  for (const { atMs, byMs = 0 } of steps) {
    if (atMs > startedMs) break
    offset += byMs
    const readMs = charged.atMs - offset
    if (readMs >= atMs - 1 || Math.abs(startedMs - readMs) < Math.abs(startedMs - best)) best = readMs
  }
  return best
}

const runKey = (call: string, run: number) => `${call}#${run}`

export function readHistory(facts: readonly Fact[]): History {
  const faults = ofKind(facts, 'fault')
  const deaths = new Map<string, number>()
  for (const { fault, process, atMs } of faults) if (fault === 'death' && process !== undefined && !deaths.has(process)) deaths.set(process, atMs)
  const diedMs = (process: string) => deaths.get(process) ?? Number.POSITIVE_INFINITY
  const clockSteps = faults.filter(({ fault }) => fault === 'redis clock')

  const asked = ofKind(facts, 'asked')
  const answers = group(ofKind(facts, 'answered'))
  const results = group(ofKind(facts, 'result'))
  const starts = group(ofKind(facts, 'started'))
  const ends = new Map(ofKind(facts, 'ended').map((ended) => [runKey(ended.call, ended.run), ended]))
  const charges = new Map(ofKind(facts, 'charged').map((charged) => [runKey(charged.call, charged.run), charged]))
  const faultsOfCalls = new Map<string, FaultFact[]>()
  for (const fault of faults) if (fault.call !== undefined) faultsOfCalls.set(fault.call, [...(faultsOfCalls.get(fault.call) ?? []), fault])

  const placed = asked.map((fact, index) => ({ fact, index, placeMs: fact.atMs - fact.priority * PRIORITY_STEP_MS }))
  placed.sort((a, b) => a.placeMs - b.placeMs || a.index - b.index)

  const stories = new Map<string, Story>()
  const allRuns: Run[] = []
  for (const [rank, { fact }] of placed.entries()) {
    const known = stories.get(fact.call)
    // The same id again: the question that came first is the call, and the others stand for it.
    if (known !== undefined && known.asked.atMs <= fact.atMs) continue
    const runs: Run[] = []
    const story: Story = {
      id: fact.call,
      asked: fact,
      answered: answers.get(fact.call)?.[0],
      runs,
      results: results.get(fact.call) ?? [],
      faults: faultsOfCalls.get(fact.call) ?? [],
      rank,
    }
    for (const started of starts.get(fact.call) ?? []) {
      const key = runKey(started.call, started.run)
      const charged = charges.get(key)
      const ended = ends.get(key)
      const died = diedMs(started.by)
      runs.push({
        story,
        started,
        chargedMs: charged && trueChargeMs(charged, started.atMs, clockSteps),
        degraded: charged?.degraded ?? false,
        ended: ended !== undefined && ended.atMs <= died ? ended : undefined,
        diedMs: died < (ended?.atMs ?? Number.POSITIVE_INFINITY) ? died : undefined,
      })
    }
    stories.set(fact.call, story)
  }
  for (const { runs } of stories.values()) allRuns.push(...runs)
  allRuns.sort((a, b) => a.started.atMs - b.started.atMs)

  const versions = ofKind(facts, 'limits').map(({ atMs, limits }) => ({ atMs, limits }))
  let endMs = Number.NEGATIVE_INFINITY
  for (const { atMs } of facts) endMs = Math.max(endMs, atMs)
  return {
    facts,
    stories,
    runs: allRuns,
    versions,
    faults,
    workers: ofKind(facts, 'worker'),
    queues: ofKind(facts, 'queue'),
    strays: ofKind(facts, 'started').filter(({ call }) => !stories.has(call)),
    endMs,
    diedMs,
    metersDuring: limitsOver(versions),
  }
}

/** A fault of the kinds that touches the time, of this process or of all; undefined where there is none. */
export function faultDuring(
  history: History,
  kinds: readonly FaultKind[],
  process: string | undefined,
  fromMs: number,
  toMs: number,
  afterMs = 0,
): FaultFact | undefined {
  return history.faults.find(
    (fault) =>
      kinds.includes(fault.fault) &&
      (process === undefined || fault.process === undefined || fault.process === process) &&
      fault.atMs <= toMs &&
      fault.untilMs + afterMs >= fromMs,
  )
}
