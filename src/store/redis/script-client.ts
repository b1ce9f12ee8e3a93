import type { Redis } from 'ioredis'
import { limitOf, meterOf } from '../../admission/rejection.js'
import { type AdmissionRequest, blockPlace, type CallRequest, type ResolvedMeters, type Settlement } from '../../admission/request.js'
import type { Resolver } from '../../admission/resolver.js'
import type { Call } from '../../model/call.js'
import { COST_UNITS, type Costs } from '../../model/cost.js'
import type { Decision } from '../../model/decision.js'
import { DEFAULTS } from '../../model/defaults.js'
import { approximateMs, type Clock } from '../../model/time.js'
import { type UpstreamOutcome, type UpstreamReport, type UpstreamStatus, upstreamKey } from '../../model/upstream.js'
import type { RuleSet } from '../../policy/compile.js'
import { retentionOf } from '../../policy/policy.js'
import type { Keys } from '../../redis/keys.js'
import { type AgainDecision, DecisionReply, readUpstreamStatus } from './decoder.js'
import { alike, BatchEncoder, ratesOf } from './encoder.js'
import { scripts } from './scripts.js'

/** How admit treats a call: see `lua/admit.lua`. */
export type AdmitMode = 'direct' | 'record' | 'front' | 'start'

/** The front of one line, as a drain is asked to look at it. */
export interface LineFront {
  readonly key: string
  /** In the order they stand. */
  readonly calls: readonly CallRequest[]
}

/** The scripts over meters, lines and ledger, as functions: one call, one round trip, no state of its own. */
export class ScriptClient {
  readonly keys: Keys
  private readonly redis: Redis
  private readonly clock: Clock
  private readonly resolver: Resolver
  /** Whether there were lines when last heard. */
  private lines = true

  constructor(redis: Redis, resolver: Resolver, clock: Clock) {
    this.redis = redis
    this.keys = resolver.keys
    this.clock = clock
    this.resolver = resolver
  }

  get rules(): RuleSet {
    return this.resolver.rules
  }

  /** What a call is expected to cost; a promise only where that has to be worked out. @throws CallInvalid */
  costs(call: Call): Costs | Promise<Costs> {
    return this.resolver.costs(call)
  }

  /** The meters a call meets under the rules in force. */
  resolve(call: Call, costs: Costs): ResolvedMeters {
    return this.resolver.resolve(call, costs)
  }

  /** The model that calls of this agent run with in degraded mode; undefined where it says none. */
  degradeTo(agent: string): string | undefined {
    const { degradeTo } = this.rules.policy
    return Object.hasOwn(degradeTo, agent) ? degradeTo[agent] : undefined
  }

  /** Asks and charges at once, or refuses. */
  async check(requests: readonly AdmissionRequest[]): Promise<Decision[]> {
    return (await this.admit('direct', requests, [], [])) as Decision[]
  }

  /** Charges what has happened already, whether there is room or not. */
  async record(requests: readonly AdmissionRequest[]): Promise<Decision[]> {
    return (await this.admit('record', requests, [], [])) as Decision[]
  }

  /** The front door: promises room or finds a place in line. */
  async enqueue(requests: readonly CallRequest[]): Promise<Decision[]> {
    return (await this.admit('front', requests, [], requests.map(storedCall))) as Decision[]
  }

  /**
   * Settles calls that have ended, then starts others, in one script call.
   * @param kept whether the calls are sent along, to be kept beside their place in line;
   *   without them a newcomer that has to stand in line is answered 'again'
   */
  start(requests: readonly CallRequest[], ended: readonly Settlement[], kept: boolean): Promise<(Decision | AgainDecision)[]> {
    return this.admit('start', requests, ended, kept ? requests.map(storedCall) : [])
  }

  private async admit(
    mode: AdmitMode,
    requests: readonly AdmissionRequest[],
    ended: readonly Settlement[],
    stored: readonly string[],
  ): Promise<(Decision | AgainDecision)[]> {
    const [first = [], ...others] = alike(requests, approximateMs(this.clock))
    const decisions = await this.admitAlike(mode, first, ended, stored.slice(0, first.length))
    let from = first.length
    for (const run of others) {
      decisions.push(...(await this.admitAlike(mode, run, [], stored.slice(from, from + run.length))))
      from += run.length
    }
    return decisions
  }

  /** One script call, for calls in which no rule stands in two versions. */
  private async admitAlike(
    mode: AdmitMode,
    requests: readonly AdmissionRequest[],
    ended: readonly Settlement[],
    stored: readonly string[],
  ): Promise<(Decision | AgainDecision)[]> {
    // A newcomer that may stand in line brings itself along to be kept there.
    const stands = stored.length > 0
    const reply = await this.decide(stands, requests.length, (lines) => {
      const encoder = this.encode(requests, mode === 'front' || mode === 'start', lines)
      for (const settlement of ended) encoder.settle(settlement, true)
      const args = [this.now(), encoder.batch(), mode, DEFAULTS.lookaheadMs, DEFAULTS.holdMaxMs, DEFAULTS.passCheckMs, ...stored]
      return { encoder, bytes: scripts.admit.run(this.redis, encoder.keys, args) }
    })
    return requests.map((request, index) => reply.decision(index, request, request.strategy ?? request.call.strategy))
  }

  /** Sends a batch: without the keys of lines where there were none when last heard, and again with them if there are. */
  private async decide(stands: boolean, calls: number, send: (lines: boolean) => { encoder: BatchEncoder; bytes: Promise<Buffer> }): Promise<DecisionReply> {
    const lines = stands || this.lines
    const { encoder, bytes } = send(lines)
    const reply = new DecisionReply(await bytes, calls, encoder.parts)
    this.lines = reply.lines
    return reply.done ? reply : this.decide(true, calls, send)
  }

  /** What admit would answer a newcomer; changes nothing. */
  async peek(requests: readonly AdmissionRequest[]): Promise<Decision[]> {
    const runs = alike(requests, approximateMs(this.clock))
    return (await Promise.all(runs.map((run) => this.peekAlike(run)))).flat()
  }

  private async peekAlike(requests: readonly AdmissionRequest[]): Promise<Decision[]> {
    const reply = await this.decide(false, requests.length, (lines) => {
      const encoder = this.encode(requests, false, lines)
      return { encoder, bytes: scripts.peek.run(this.redis, encoder.keys, [this.now(), encoder.batch()]) }
    })
    return requests.map((request, index) => reply.decision(index, request) as Decision)
  }

  /**
   * Says what started calls have cost; per call whether there was an entry open under its token.
   * @param how 'end' closes the entries; 'part': the calls go on, what they have cost so far is charged
   */
  async settle(settlements: readonly Settlement[], how: 'end' | 'part' = 'end'): Promise<boolean[]> {
    const encoder = this.encode([], false)
    for (const settlement of settlements) encoder.settle(settlement, false)
    const settled = await scripts.settle.run(this.redis, encoder.keys, [this.now(), encoder.batch(), how])
    return settled.map((one) => one === 1)
  }

  /** Forgets what these meters have counted, and notes it in the audit. */
  async reset(request: AdmissionRequest, by: string): Promise<void> {
    const encoder = this.encode([{ ...request, forGood: true }], false)
    const { meters } = request
    const limits = meters.flatMap(({ rule }) => rule.limits.map(({ name }) => limitOf(rule.name, name)))
    const args = [this.now(), encoder.batch(), retentionOf(this.rules.policy), by, meters.map(meterOf).join(', '), ...limits]
    await scripts.reset.run(this.redis, [...encoder.keys, this.keys.audit], args)
  }

  /** Writes the state of a user's own algorithm if the one it was worked out from still stands; `becomes` '' only reads. */
  async compareAndSet(key: string, was: string, becomes: string, keepMs: number): Promise<{ nowMs: number; written: boolean; state: string }> {
    const [nowMs, written, state] = await scripts.compareAndSet.run(this.redis, [key], [this.now(), was, becomes, keepMs])
    return { nowMs: Number(nowMs), written: written === 1, state }
  }

  /**
   * Gives back all a call holds: W its place in line, P its pass, S its charge; '-' it
   * held nothing, R it runs under another token.
   * @param lineKey the line the call stands in, where it is known to stand in one
   */
  async release(request: AdmissionRequest, lineKey = ''): Promise<'W' | 'P' | 'S' | 'R' | '-'> {
    const encoder = this.encode([request], true)
    if (lineKey !== '' && !encoder.keys.includes(lineKey)) encoder.keys.push(lineKey)
    const [held = '-'] = await scripts.release.run(this.redis, encoder.keys, [this.now(), encoder.batch(), lineKey])
    return held as 'W' | 'P' | 'S' | 'R' | '-'
  }

  /** An agent said something about its limits; a call that stands open is given back. */
  reportUpstream(request: AdmissionRequest, report: UpstreamReport): Promise<UpstreamOutcome> {
    return this.tell(request, report, '', false)
  }

  /** The call's agent asked to be left alone: as above, and puts the call at the head of its line. */
  giveBack(request: CallRequest, report: UpstreamReport): Promise<UpstreamOutcome> {
    return this.tell(request, report, storedCall(request), true)
  }

  private async tell(
    request: AdmissionRequest,
    { kind, retryAfterMs, reduceFactor, observed, name }: UpstreamReport,
    stored: string,
    onItsWay: boolean,
  ): Promise<UpstreamOutcome> {
    const encoder = this.encode([request], onItsWay)
    const observation =
      observed === null && kind !== 'refused' ? '' : JSON.stringify({ name, limits: observed ?? {}, atMs: Math.round(approximateMs(this.clock)) })
    const said = [kind, reduceFactor, JSON.stringify(ratesOf(observed)), observation, upstreamKey(name), observed === null ? 0 : 1]
    const args = [this.now(), encoder.batch(), blockPlace(request), retryAfterMs, DEFAULTS.lookaheadMs, stored, ...said]
    const [cut, ...upstreamStatus] = await scripts.reportUpstream.run(this.redis, [...encoder.keys, this.keys.upstream], args)
    return { cut: cut === '1', ...readUpstreamStatus(upstreamStatus) }
  }

  /** What is known of the agents of these calls. */
  async upstreamStatus(requests: readonly AdmissionRequest[]): Promise<UpstreamStatus[]> {
    const told = await scripts.upstreamStatus.run(this.redis, ...this.asking(requests))
    return told.map(readUpstreamStatus)
  }

  private asking(requests: readonly AdmissionRequest[]): [keys: readonly string[], args: string[]] {
    const encoder = this.encode(requests, false)
    return [encoder.keys, [this.now(), encoder.batch()]]
  }

  /** Wakes who can be woken at the front of the given lines. */
  async dispatch(lines: readonly LineFront[]): Promise<{ nowMs: number; woken: string[]; nextMs: number | null }> {
    const requests = lines.flatMap((line) => line.calls)
    const encoder = this.encode(requests, true)
    const shapes = lines.map(({ key, calls }) => {
      // A line whose rule is gone has no meter in the batch; its key is declared here.
      let index = encoder.keys.indexOf(key)
      if (index < 0) index = encoder.keys.push(key) - 1
      return [index + 1, encoder.meterOfLine(key), calls.length]
    })
    const args = [this.now(), encoder.batch(), DEFAULTS.lookaheadMs, DEFAULTS.passCheckMs, JSON.stringify(shapes), ...requests.map(storedCall)]
    const [nowMs, woken, nextMs] = await scripts.dispatch.run(this.redis, encoder.keys, args)
    return { nowMs: Number(nowMs), woken, nextMs: Number(nextMs) < 0 ? null : Number(nextMs) }
  }

  /** Looks after passes that have not started; says what became of each. */
  reconcilePasses(
    passes: readonly { request: AdmissionRequest; seen: 'queued' | 'held' | 'missing' }[],
  ): Promise<('kept' | 'unclaimed' | 'dropped' | 'gone')[]> {
    const encoder = this.encode(
      passes.map(({ request }) => request),
      true,
    )
    const args = [this.now(), encoder.batch(), DEFAULTS.passCheckMs, DEFAULTS.passGraceMs, ...passes.map(({ seen }) => seen)]
    return scripts.reconcilePasses.run(this.redis, encoder.keys, args)
  }

  /** Takes calls out of their lines whose deadlines have passed; returns the ids of those that were in one. */
  expire(waiting: readonly { request: AdmissionRequest; line: string }[]): Promise<string[]> {
    const encoder = this.encode(
      waiting.map(({ request }) => request),
      true,
    )
    for (const { line } of waiting) if (line !== '' && !encoder.keys.includes(line)) encoder.keys.push(line)
    return scripts.expire.run(this.redis, encoder.keys, [this.now(), encoder.batch(), DEFAULTS.passCheckMs, ...waiting.map(({ line }) => line)])
  }

  /** The record of a call on its way, null where there is none. */
  recordOf(id: string): Promise<string | null> {
    return this.redis.get(this.keys.call(id))
  }

  /** Extends leases, by their key. */
  renew(leases: ReadonlyMap<string, { leaseMs: number; ids: readonly string[] }>): Promise<number> {
    const args: (string | number)[] = [this.now()]
    for (const { leaseMs, ids } of leases.values()) args.push(leaseMs, JSON.stringify(ids))
    return scripts.renew.run(this.redis, [...leases.keys()], args)
  }

  private encode(requests: readonly AdmissionRequest[], onTheirWay: boolean, lines = true): BatchEncoder {
    const encoder = new BatchEncoder(this.keys, approximateMs(this.clock), lines)
    for (const one of requests) encoder.ask(one, onTheirWay)
    return encoder
  }

  private now(): string {
    return this.clock.forScripts()
  }
}

/** The call as it is kept beside its place in line: what decides about it, with its cost known, and no payload. */
function storedCall({ call, costs }: CallRequest): string {
  const { payload: _payload, id: _id, ...rest } = call
  const known = COST_UNITS.filter((unit) => costs[unit] > 0).map((unit) => [unit, costs[unit]])
  return JSON.stringify({ ...rest, cost: { ...call.cost, ...Object.fromEntries(known) } })
}
