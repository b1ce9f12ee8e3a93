import type { Call, RuleSpec, Ticket } from '../../src/index.js'
import { limitsOfRule } from '../simulation/fleet/limits-of-rules.js'
import {
  type Bounds,
  type EndedFact,
  type Fact,
  type FactCosts,
  type FactScope,
  type FaultFact,
  ORACLES,
  type OracleName,
} from '../simulation/oracles/facts.js'
import { judge } from '../simulation/oracles/judge.js'
import type { Namespace } from './namespace.js'
import { until } from './until.js'
import type { WorkerProcess } from './worker-process.js'

/** Bounds for real processes on a machine that does other work as well. */
export const REAL_BOUNDS: Bounds = {
  stepMs: 1000,
  lateMs: 4000,
  lateSickMs: 15_000,
  lostShare: 0.5,
  lostShareSick: 0.9,
  etaMs: 10_000,
  changeMs: 2000,
  leaseMs: 2000,
}

/** A time with parts of a ms: starts follow each other closely. */
function nowMs(): number {
  return performance.timeOrigin + performance.now()
}

/**
 * Notes what happens in a test with real processes, for the oracles of the simulation: what its app asked and was told, what its agent saw, and what
 * was done to its workers. Times are those of this process; Redis' clock is the same on one machine.
 */
export class FactJournal {
  private readonly facts: Fact[] = []
  private runs = 0

  constructor(rules: readonly RuleSpec[], keysOf: (by: readonly FactScope[]) => readonly string[] = () => []) {
    // They are in force from before the test.
    this.facts.push({ fact: 'limits', atMs: nowMs() - 60_000, limits: rules.flatMap((rule) => limitsOfRule(rule, [], keysOf)) })
  }

  /** Notes calls that are asked for now, by names of the test's own. @returns notes what became of them at the front door */
  asked(calls: readonly Call[], nameOf: (index: number) => string): (tickets: readonly Pick<Ticket, 'error' | 'decision'>[]) => void {
    const atMs = nowMs()
    for (const [index, call] of calls.entries()) {
      const { agent, org, user, priority = 0, cost } = call
      const scopes = { agent, ...(org === undefined ? {} : { org }), ...(user === undefined ? {} : { user }) }
      const costs: FactCosts = { requests: 1, ...(cost?.tokens === undefined ? {} : { tokens: cost.tokens }) }
      this.facts.push({ fact: 'asked', atMs, call: nameOf(index), by: 'app', door: 'queue', queue: 'calls', scopes, costs, priority, waits: true })
    }
    return (tickets) => {
      for (const [index, { error, decision }] of tickets.entries()) {
        const outcome = error !== undefined ? 'refused' : decision?.outcome === 'run' || decision?.outcome === 'wait' ? decision.outcome : 'unknown'
        this.facts.push({ fact: 'answered', atMs: nowMs(), call: nameOf(index), outcome })
      }
    }
  }

  /** The agent gets a call. @returns notes its end */
  started(call: string, by: string, chargedMs?: number): (how: EndedFact['how'], actual: FactCosts, reported?: boolean) => void {
    const run = ++this.runs
    if (chargedMs !== undefined) this.facts.push({ fact: 'charged', atMs: chargedMs, call, run })
    this.facts.push({ fact: 'started', atMs: nowMs(), call, run, by, attempt: 1 })
    return (how, actual, reported = true) => void this.facts.push({ fact: 'ended', atMs: nowMs(), call, run, how, actual, reported })
  }

  /** A worker that takes calls from now on. */
  worker(process: string, places: number): void {
    this.facts.push({ fact: 'worker', atMs: nowMs(), process, queue: 'calls', state: 'up', places })
  }

  /** A worker that takes calls as soon as its log says so, unless it is killed before. */
  async comes(process: string, worker: WorkerProcess, places: number): Promise<void> {
    let hasExited = false
    void worker.exited().then(() => {
      hasExited = true
    })
    await until(`${process} takes calls`, () => worker.takesCalls || hasExited)
    if (!hasExited) this.worker(process, places)
  }

  /** Kills a worker. */
  async kill(process: string, worker: WorkerProcess): Promise<void> {
    const atMs = nowMs()
    this.facts.push({ fact: 'fault', fault: 'death', atMs, untilMs: atMs, process, text: `${process} is killed` })
    await worker.end('SIGKILL')
  }

  /** Something is done to the fleet. @returns notes that it is over */
  fault(fault: FaultFact['fault'], text: string): () => void {
    const atMs = nowMs()
    const begun: FaultFact = { fact: 'fault', fault, atMs, untilMs: Number.POSITIVE_INFINITY, text }
    const place = this.facts.push(begun) - 1
    return () => {
      this.facts[place] = { ...begun, untilMs: nowMs() }
    }
  }

  /** Notes the keys of a namespace in which all calls have ended. */
  async keysLeft(namespace: Namespace): Promise<void> {
    for (const key of await namespace.allKeys()) {
      const [type, ttlMs] = await Promise.all([namespace.redis.type(key), namespace.redis.pttl(key)])
      // It may have ended in between.
      if (type !== 'none') this.facts.push({ fact: 'key left', atMs: nowMs(), key, type, ttlMs: ttlMs < 0 ? null : ttlMs })
    }
  }

  /**
   * What these oracles find wrong; default: all. On a busy machine a worker may stand still for longer than a lease of some seconds, which no fact
   * tells: then its calls run again, late and out of order. A test that kills workers leaves out the oracles that would report this.
   */
  reports(oracles: readonly OracleName[] = ORACLES): string[] {
    return judge(this.facts, REAL_BOUNDS)
      .filter(({ oracle }) => oracles.includes(oracle))
      .map(({ oracle, text }) => `${oracle}: ${text}`)
  }
}
