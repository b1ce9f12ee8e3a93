import { limitsOver, type MetersDuring, type Version } from './coverage.js'
import type {
  AnsweredFact,
  AskedFact,
  CancelledFact,
  EndedFact,
  Fact,
  FaultFact,
  FaultKind,
  HandedFact,
  QueueFact,
  ResultFact,
  StartedFact,
  WorkerFact,
} from './facts.js'

/** One run of a call, as its agent saw it. */
export interface Run {
  readonly story: Story
  readonly started: StartedFact
  /** undefined: no fact tells it. */
  readonly chargedMs: number | undefined
  readonly degraded: boolean
  /** The other time at which the charge may have been made; see `ChargedFact.firstMs`. */
  readonly firstMs: number | undefined
  /** Whether its process let it in by itself. */
  readonly unchecked: boolean
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
  /** When BullMQ handed its job to whom. */
  readonly handed: readonly HandedFact[]
  /** What its app was told of its cancellations. */
  readonly cancelled: readonly CancelledFact[]
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

const runKey = (call: string, run: number) => `${call}#${run}`

export function readHistory(facts: readonly Fact[]): History {
  const faults = ofKind(facts, 'fault')
  const deaths = new Map<string, number>()
  for (const { fault, process, atMs } of faults) if (fault === 'death' && process !== undefined && !deaths.has(process)) deaths.set(process, atMs)
  const diedMs = (process: string) => deaths.get(process) ?? Number.POSITIVE_INFINITY

  const asked = ofKind(facts, 'asked')
  const answers = group(ofKind(facts, 'answered'))
  const results = group(ofKind(facts, 'result'))
  const cancelled = group(ofKind(facts, 'cancelled'))
  const handed = group(ofKind(facts, 'handed'))
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
      handed: handed.get(fact.call) ?? [],
      cancelled: cancelled.get(fact.call) ?? [],
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
        chargedMs: charged?.atMs,
        degraded: charged?.degraded ?? false,
        firstMs: charged?.firstMs,
        unchecked: charged?.unchecked ?? false,
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

/** What is sent on a slow network may take so long, and what is sent behind it on the same connection. */
const SLOW_WAY_MS = 1000

/** Until when a fault goes on. A death and a step of a clock are over at once, though the process stays dead, and the clock wrong. */
export function goesOnUntilMs({ fault, atMs, untilMs }: FaultFact): number {
  if (fault === 'slow network') return untilMs + SLOW_WAY_MS
  return fault === 'death' || fault === 'node clock' ? atMs : untilMs
}

/** Whether a fault concerns a process: it names it, or names none. */
export function concerns(fault: FaultFact, process: string | undefined): boolean {
  return process === undefined || fault.process === undefined || fault.process === process
}

/** A fault of the kinds that goes on at some time between two; undefined where there is none. */
export function faultDuring(history: History, kinds: readonly FaultKind[], process: string | undefined, fromMs: number, toMs: number): FaultFact | undefined {
  return history.faults.find((fault) => kinds.includes(fault.fault) && concerns(fault, process) && fault.atMs <= toMs && goesOnUntilMs(fault) >= fromMs)
}

/** The first time from which a call was known to Tollgate: plain jobs are not answered. */
export function acceptedMs({ asked, answered }: Story): number | undefined {
  if (asked.door === 'plain job') return asked.atMs
  if (answered === undefined) return undefined
  return answered.outcome === 'run' || answered.outcome === 'wait' || answered.outcome === 'degrade' ? answered.atMs : undefined
}

/** When a run was charged, as near as facts tell. */
export function chargeMs({ chargedMs, started }: Run): number {
  return chargedMs === undefined ? started.atMs : Math.min(chargedMs, started.atMs)
}

/** When a call may start no more; Infinity: always. A call without a queue waits as long as its process lets it. */
export function deadlineMs({ asked }: Story): number {
  if (asked.door !== 'queue' && asked.door !== 'plain job') return Number.POSITIVE_INFINITY
  return Math.min(asked.deadlineMs ?? Number.POSITIVE_INFINITY, asked.atMs + (asked.maxWaitMs ?? Number.POSITIVE_INFINITY))
}
