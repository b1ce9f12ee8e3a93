import type { MeterRef } from '../admission/request.js'
import type { Call } from '../model/call.js'
import type { Binding, Decision } from '../model/decision.js'
import type { CompiledRule } from '../policy/compiled-rule.js'
import type { GateCalls } from './gate-calls.js'
import { addNumber, BUCKETS, bucketOf, escaped, NUMBER, type Numbers } from './point.js'
import { type HistoryBatch, SERIES, type SeriesEntry, TOP, TOP_SIZE, type TopEntry } from './series.js'

/** So many agents, spenders of a kind, and names in a list are counted between two flushes; the calls of others count for the namespace and rules alone. */
export const NAMES_AT_MOST = 500
/** So many decisions between two flushes have what their limits have left looked at, and of further ones every 16th. */
const LOOKS = 200
const LOOK_EVERY = 16

export const VIOLATORS = ['user', 'ip', 'endpoint'] as const

/** What is counted of a rule, an agent or the namespace between two flushes: in fields, since these stand in the way of calls. */
class SubjectCounts {
  /** By the names of `COUNTED`. */
  readonly counts = new Float64Array(COUNTED.length)
  waits: Uint32Array | undefined
  /** How long decisions took. */
  checks: Uint32Array | undefined
  checkMicros = 0
  checked = 0
  /** Further numbers per minute and hour, and since the last reset. */
  readonly points: Numbers = new Map()
  readonly total: Numbers = new Map()

  /** Puts the fields to the numbers. */
  gather(): void {
    for (const [place, name] of COUNTED.entries()) if (this.counts[place] !== 0) addNumber(this.points, NUMBER[name], this.counts[place] as number)
    this.waits?.forEach((count, bucket) => {
      if (count > 0) addNumber(this.points, `${NUMBER.waitBucket}${bucket}`, count)
    })
    if (this.checked === 0) return
    addNumber(this.total, NUMBER.checks, this.checked)
    addNumber(this.total, NUMBER.checkMicros, this.checkMicros)
    this.checks?.forEach((count, bucket) => {
      if (count > 0) addNumber(this.total, `${NUMBER.checkBucket}${bucket}`, count)
    })
  }
}

const COUNTED = ['arrived', 'started', 'done', 'failed', 'refused', 'expired', 'returned', 'estimatedTokens', 'tokens', 'usd'] as const
type Counted = (typeof COUNTED)[number]
const PLACE = Object.fromEntries(COUNTED.map((name, place) => [name, place])) as Readonly<Record<Counted, number>>

function countName(counts: Map<string, number>, name: string | undefined, amount = 1): void {
  if (name === undefined) return
  const known = counts.get(name)
  if (known !== undefined || counts.size < NAMES_AT_MOST) counts.set(name, (known ?? 0) + amount)
}

function addTo(counts: Float64Array | Uint32Array, place: number, amount: number): void {
  counts[place] = (counts[place] as number) + amount
}

/** Whether a limit binds, of a rule that has statistics: no pause, and no block of an agent. */
function isOfLimit({ kind, limit }: Binding): boolean {
  return limit !== '' && (kind === 'rule' || kind === 'degraded')
}

/** A call and the meters that count it. */
export interface TalliedCall {
  readonly call: Call
  readonly meters: readonly MeterRef[]
}

/** Counts in memory, between two flushes. Its methods stand in the way of calls: each is some additions. */
export class Tally {
  private readonly all = new SubjectCounts()
  /** By compiled rule, so that no name is looked up; a rule under overrides has several. */
  private readonly rules = new Map<CompiledRule, SubjectCounts>()
  private readonly agents = new Map<string, SubjectCounts>()
  private readonly violations = { user: new Map<string, number>(), ip: new Map<string, number>(), endpoint: new Map<string, number>() }
  private readonly seen: SeriesEntry[] = []
  private readonly seenTops: TopEntry[] = []
  private looks = 0
  private lastStartMs = 0

  arrived(of: TalliedCall): void {
    this.count(of, PLACE.arrived)
  }

  /** @param waitedMs since the call came */
  started(of: TalliedCall, waitedMs: number, nowMs: number): void {
    const bucket = bucketOf(waitedMs)
    this.lastStartMs = nowMs
    this.each(of, (subject) => {
      const { counts } = subject
      addTo(counts, PLACE.started, 1)
      subject.waits ??= new Uint32Array(BUCKETS)
      addTo(subject.waits, bucket, 1)
    })
  }

  ended(of: TalliedCall, how: 'done' | 'failed' | 'refused' | 'expired' | 'returned'): void {
    this.count(of, PLACE[how])
  }

  used(of: TalliedCall, used: Readonly<Record<'estimatedTokens' | 'tokens' | 'usd', number>>): void {
    this.count(of, PLACE.estimatedTokens, used.estimatedTokens)
    this.count(of, PLACE.tokens, used.tokens)
    if (used.usd > 0) this.count(of, PLACE.usd, used.usd)
  }

  /** A decision of the gate or the front door. @param tookMs as its caller saw it */
  decided(of: TalliedCall, decision: Decision, tookMs: number): void {
    const micros = tookMs * 1000
    const bucket = bucketOf(micros)
    for (const { rule } of of.meters) {
      if (rule.kind !== 'rule' && rule.kind !== 'degraded') continue
      const subject = this.subjectOf(rule)
      subject.checked++
      subject.checkMicros += micros
      subject.checks ??= new Uint32Array(BUCKETS)
      addTo(subject.checks, bucket, 1)
    }
    const { outcome } = decision
    if (outcome !== 'run') this.refused(of, decision)
    if (this.looks++ < LOOKS || this.looks % LOOK_EVERY === 0) this.look(of, decision)
  }

  /** Calls of a kind that the gate decided on. @param lastMs when the last one was */
  atGate({ agent: name, rules, calls, micros, took, refusedBy }: GateCalls, lastMs: number): void {
    const ran = refusedBy === undefined
    if (ran) this.lastStartMs = Math.max(this.lastStartMs, lastMs)
    const agent = this.agentOf(name)
    const ofRules = rules.map((rule) => this.subjectOf(rule))
    for (const subject of agent === undefined ? [this.all, ...ofRules] : [this.all, agent, ...ofRules]) {
      addTo(subject.counts, PLACE.arrived, calls)
      addTo(subject.counts, ran ? PLACE.started : PLACE.refused, calls)
      if (!ran) continue
      subject.waits ??= new Uint32Array(BUCKETS)
      addTo(subject.waits, 0, calls)
    }
    for (const subject of ofRules) {
      subject.checked += calls
      subject.checkMicros += micros
      subject.checks ??= new Uint32Array(BUCKETS)
      for (const [bucket, count] of took.entries()) addTo(subject.checks, bucket, count)
    }
    if (refusedBy === undefined) return
    if (refusedBy.reason === 'unavailable') for (const { total } of ofRules) addNumber(total, NUMBER.storeErrors, calls)
    const { binding } = refusedBy
    if (isOfLimit(binding))
      this.exceeded(
        rules.find(({ name: rule }) => rule === binding.rule),
        binding.limit,
        calls,
      )
  }

  private refused(of: TalliedCall, decision: Decision): void {
    if (decision.outcome === 'reject' && decision.reason === 'unavailable') this.storeError(of)
    if (!('binding' in decision) || decision.binding === null || !isOfLimit(decision.binding)) return
    const { rule: name, limit } = decision.binding
    this.exceeded(of.meters.find(({ rule }) => rule.name === name)?.rule, limit, 1)
    this.violated(of, decision.binding)
  }

  /** A limit of the rule had no room for calls. */
  private exceeded(rule: CompiledRule | undefined, limit: string, calls: number): void {
    if (rule === undefined) return
    const { total, points } = this.subjectOf(rule)
    const ofLimit = NUMBER.exceededOf + escaped(limit)
    addNumber(total, NUMBER.exceeded, calls)
    addNumber(total, ofLimit, calls)
    // For the verdict, which names budgets that refuse calls.
    if (rule.limits.find(({ name }) => name === limit)?.unit === 'usd') addNumber(points, ofLimit, calls)
  }

  /** A limit had no room for a call: counts whose it is. */
  violated({ call: { user, ip, endpoint } }: Pick<TalliedCall, 'call'>, binding: Binding): void {
    if (!isOfLimit(binding)) return
    countName(this.violations.user, user)
    countName(this.violations.ip, ip)
    countName(this.violations.endpoint, endpoint)
  }

  /** What limits have left after a decision. */
  look({ meters }: TalliedCall, { usage }: Pick<Decision, 'usage'>): void {
    for (const { rule, limit, remaining } of usage) {
      const found = meters.find((meter) => meter.rule.name === rule)?.rule
      if (found === undefined) continue
      const { total } = this.subjectOf(found)
      const name = escaped(limit)
      addNumber(total, NUMBER.remainingOf + name, remaining)
      addNumber(total, NUMBER.remainingLooks + name, 1)
    }
  }

  storeError(of: TalliedCall): void {
    this.countTotal(of, NUMBER.storeErrors)
  }

  unchecked(of: Pick<TalliedCall, 'meters'>): void {
    this.countTotal(of, NUMBER.unchecked)
  }

  /** What the dispatcher saw of the lines. */
  saw({ series, tops }: HistoryBatch): void {
    this.seen.push(...series)
    this.seenTops.push(...tops)
  }

  /** All that was counted, as a batch. */
  batch(): HistoryBatch {
    const series: SeriesEntry[] = [...this.seen]
    const put = (name: string, subject: SubjectCounts) => {
      subject.gather()
      if (subject.points.size > 0) series.push({ name, resolutions: ['m', 'h'], numbers: subject.points })
      if (subject.total.size > 0) series.push({ name, resolutions: ['t'], numbers: subject.total })
    }
    if (this.lastStartMs > 0) addNumber(this.all.total, NUMBER.lastStart, this.lastStartMs)
    put(SERIES.namespace, this.all)
    for (const [rule, subject] of this.rules) put(SERIES.rule(rule.kind === 'degraded' ? rule.name.replace(/~degraded$/, '') : rule.name), subject)
    for (const [name, subject] of this.agents) put(SERIES.agent(name), subject)
    const tops: TopEntry[] = [...this.seenTops]
    const agents = new Map([...this.agents].map(([name, { counts }]) => [name, 1 + (counts[PLACE.arrived] ?? 0) + (counts[PLACE.started] ?? 0)]))
    if (agents.size > 0) tops.push({ list: TOP.agents, size: TOP_SIZE.agents, counts: agents, seriesOf: SERIES.agent })
    for (const by of VIOLATORS) {
      const counts = this.violations[by]
      if (counts.size > 0) tops.push({ list: TOP.violations(by), size: TOP_SIZE.violations, counts })
    }
    return { series, tops }
  }

  private count(of: TalliedCall, place: number, amount = 1): void {
    this.each(of, ({ counts }) => addTo(counts, place, amount))
  }

  private countTotal({ meters }: Pick<TalliedCall, 'meters'>, name: string): void {
    for (const { rule } of meters) if (rule.kind === 'rule' || rule.kind === 'degraded') addNumber(this.subjectOf(rule).total, name, 1)
  }

  private each({ call, meters }: TalliedCall, count: (subject: SubjectCounts) => void): void {
    count(this.all)
    const agent = this.agentOf(call.agent)
    if (agent !== undefined) count(agent)
    for (const { rule } of meters) if (rule.kind === 'rule' || rule.kind === 'degraded') count(this.subjectOf(rule))
  }

  private agentOf(name: string): SubjectCounts | undefined {
    let agent = this.agents.get(name)
    if (agent === undefined && this.agents.size < NAMES_AT_MOST) {
      agent = new SubjectCounts()
      this.agents.set(name, agent)
    }
    return agent
  }

  private subjectOf(rule: CompiledRule): SubjectCounts {
    let subject = this.rules.get(rule)
    if (subject === undefined) {
      subject = new SubjectCounts()
      this.rules.set(rule, subject)
    }
    return subject
  }
}
