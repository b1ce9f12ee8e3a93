import type { Redis } from 'ioredis'
import { limitOf, meterOf } from '../../admission/rejection.js'
import { type Asked, type AskedCall, blockPlace, type Demand, type Settlement } from '../../admission/request.js'
import type { Demands } from '../../admission/resolver.js'
import type { Call } from '../../model/call.js'
import { COST_UNITS, type Costs } from '../../model/cost.js'
import type { Decision } from '../../model/decision.js'
import { DEFAULTS } from '../../model/defaults.js'
import { approximateMs, type Clock } from '../../model/time.js'
import { type Announced, type Announcement, type Known, upstreamKey } from '../../model/upstream.js'
import type { RuleSet } from '../../policy/compile.js'
import { retentionOf } from '../../policy/policy.js'
import type { Keys } from '../../redis/keys.js'
import { type AgainDecision, DecisionReply, readKnown } from './decoder.js'
import { alike, BatchEncoder, ratesOf } from './encoder.js'
import { scripts } from './scripts.js'

/** How admit treats a call: see `lua/admit.lua`. */
export type AdmitMode = 'direct' | 'record' | 'front' | 'start'

/** The front of one line, as a drain is asked to look at it. */
export interface DrainedLine {
  readonly key: string
  /** In the order they stand. */
  readonly calls: readonly AskedCall[]
}

/** The scripts over meters, lines and ledger, as functions: one call, one round trip, no state of its own. */
export class Gate {
  readonly keys: Keys
  private readonly redis: Redis
  private readonly clock: Clock
  private readonly demands: Demands
  /** Whether there were lines when last heard. */
  private lines = true

  constructor(redis: Redis, demands: Demands, clock: Clock) {
    this.redis = redis
    this.keys = demands.keys
    this.clock = clock
    this.demands = demands
  }

  get rules(): RuleSet {
    return this.demands.rules
  }

  /** What a call is expected to cost; a promise only where that has to be worked out. @throws CallInvalid */
  costs(call: Call): Costs | Promise<Costs> {
    return this.demands.costs(call)
  }

  /** The meters a call meets under the rules in force. */
  demand(call: Call, costs: Costs): Demand {
    return this.demands.demand(call, costs)
  }

  /** The model that calls of this agent run with in degraded mode; undefined where it says none. */
  degradeTo(agent: string): string | undefined {
    const { degradeTo } = this.rules.policy
    return Object.hasOwn(degradeTo, agent) ? degradeTo[agent] : undefined
  }

  /** Asks and charges at once, or refuses. */
  async direct(asked: readonly Asked[]): Promise<Decision[]> {
    return (await this.admit('direct', asked, [], [])) as Decision[]
  }

  /** Charges what has happened already, whether there is room or not. */
  async record(asked: readonly Asked[]): Promise<Decision[]> {
    return (await this.admit('record', asked, [], [])) as Decision[]
  }

  /** The front door: promises room or finds a place in line. */
  async front(asked: readonly AskedCall[]): Promise<Decision[]> {
    return (await this.admit('front', asked, [], asked.map(storedCall))) as Decision[]
  }

  /**
   * Settles calls that have ended, then starts others, in one script call.
   * @param kept whether the calls are sent along, to be kept beside their place in line;
   *   without them a newcomer that has to stand in line is answered 'again'
   */
  start(asked: readonly AskedCall[], ended: readonly Settlement[], kept: boolean): Promise<(Decision | AgainDecision)[]> {
    return this.admit('start', asked, ended, kept ? asked.map(storedCall) : [])
  }

  private async admit(
    mode: AdmitMode,
    asked: readonly Asked[],
    ended: readonly Settlement[],
    stored: readonly string[],
  ): Promise<(Decision | AgainDecision)[]> {
    const [first = [], ...others] = alike(asked, approximateMs(this.clock))
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
    asked: readonly Asked[],
    ended: readonly Settlement[],
    stored: readonly string[],
  ): Promise<(Decision | AgainDecision)[]> {
    // A newcomer that may stand in line brings itself along to be kept there.
    const stands = stored.length > 0
    const reply = await this.decide(stands, asked.length, (lines) => {
      const encoder = this.encode(asked, mode === 'front' || mode === 'start', lines)
      for (const settlement of ended) encoder.settle(settlement, true)
      const args = [this.now(), encoder.batch(), mode, DEFAULTS.lookaheadMs, DEFAULTS.holdMaxMs, DEFAULTS.passCheckMs, ...stored]
      return { encoder, bytes: scripts.admit.run(this.redis, encoder.keys, args) }
    })
    return asked.map(({ demand, strategy, call }, index) => reply.decision(index, demand, strategy ?? call.strategy))
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
  async peek(asked: readonly Asked[]): Promise<Decision[]> {
    const runs = alike(asked, approximateMs(this.clock))
    return (await Promise.all(runs.map((run) => this.peekAlike(run)))).flat()
  }

  private async peekAlike(asked: readonly Asked[]): Promise<Decision[]> {
    const reply = await this.decide(false, asked.length, (lines) => {
      const encoder = this.encode(asked, false, lines)
      return { encoder, bytes: scripts.peek.run(this.redis, encoder.keys, [this.now(), encoder.batch()]) }
    })
    return asked.map(({ demand }, index) => reply.decision(index, demand) as Decision)
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
  async reset(asked: Asked, by: string): Promise<void> {
    const encoder = this.encode([{ ...asked, forGood: true }], false)
    const { parts } = asked.demand
    const limits = parts.flatMap(({ rule }) => rule.limits.map(({ name }) => limitOf(rule.name, name)))
    const args = [this.now(), encoder.batch(), retentionOf(this.rules.policy), by, parts.map(meterOf).join(', '), ...limits]
    await scripts.reset.run(this.redis, [...encoder.keys, this.keys.audit], args)
  }

  /** Writes the state of a user's own algorithm if the one it was worked out from still stands; `becomes` '' only reads. */
  async swap(key: string, was: string, becomes: string, keepMs: number): Promise<{ nowMs: number; written: boolean; state: string }> {
    const [nowMs, written, state] = await scripts.swap.run(this.redis, [key], [this.now(), was, becomes, keepMs])
    return { nowMs: Number(nowMs), written: written === 1, state }
  }

  /**
   * Gives back all a call holds: W its place in line, P its pass, S its charge; '-' it
   * held nothing, R it runs under another token.
   * @param lineKey the line the call stands in, where it is known to stand in one
   */
  async release(asked: Asked, lineKey = ''): Promise<'W' | 'P' | 'S' | 'R' | '-'> {
    const encoder = this.encode([asked], true)
    if (lineKey !== '' && !encoder.keys.includes(lineKey)) encoder.keys.push(lineKey)
    const [held = '-'] = await scripts.release.run(this.redis, encoder.keys, [this.now(), encoder.batch(), lineKey])
    return held as 'W' | 'P' | 'S' | 'R' | '-'
  }

  /** An agent said something about its limits; a call that stands open is given back. */
  announce(asked: Asked, announcement: Announcement): Promise<Announced> {
    return this.tell(asked, announcement, '', false)
  }

  /** The call's agent asked to be left alone: as above, and puts the call at the head of its line. */
  giveBack(asked: AskedCall, announcement: Announcement): Promise<Announced> {
    return this.tell(asked, announcement, storedCall(asked), true)
  }

  private async tell(asked: Asked, { kind, retryAfterMs, reduceFactor, observed, name }: Announcement, stored: string, onItsWay: boolean): Promise<Announced> {
    const encoder = this.encode([asked], onItsWay)
    const observation =
      observed === null && kind !== 'refused' ? '' : JSON.stringify({ name, limits: observed ?? {}, atMs: Math.round(approximateMs(this.clock)) })
    const said = [kind, reduceFactor, JSON.stringify(ratesOf(observed)), observation, upstreamKey(name), observed === null ? 0 : 1]
    const args = [this.now(), encoder.batch(), blockPlace(asked.demand), retryAfterMs, DEFAULTS.lookaheadMs, stored, ...said]
    const [cut, ...known] = await scripts.announce.run(this.redis, [...encoder.keys, this.keys.upstream], args)
    return { cut: cut === '1', ...readKnown(known) }
  }

  /** What is known of the agents of these calls. */
  async known(asked: readonly Asked[]): Promise<Known[]> {
    const told = await scripts.upstream.run(this.redis, ...this.asking(asked))
    return told.map(readKnown)
  }

  private asking(asked: readonly Asked[]): [keys: readonly string[], args: string[]] {
    const encoder = this.encode(asked, false)
    return [encoder.keys, [this.now(), encoder.batch()]]
  }

  /** Wakes who can be woken at the front of the given lines. */
  async drain(lines: readonly DrainedLine[]): Promise<{ nowMs: number; woken: string[]; nextMs: number | null }> {
    const asked = lines.flatMap((line) => line.calls)
    const encoder = this.encode(asked, true)
    const shapes = lines.map(({ key, calls }) => {
      // A line whose rule is gone has no meter in the batch; its key is declared here.
      let index = encoder.keys.indexOf(key)
      if (index < 0) index = encoder.keys.push(key) - 1
      return [index + 1, encoder.meterOfLine(key), calls.length]
    })
    const args = [this.now(), encoder.batch(), DEFAULTS.lookaheadMs, DEFAULTS.passCheckMs, JSON.stringify(shapes), ...asked.map(storedCall)]
    const [nowMs, woken, nextMs] = await scripts.drain.run(this.redis, encoder.keys, args)
    return { nowMs: Number(nowMs), woken, nextMs: Number(nextMs) < 0 ? null : Number(nextMs) }
  }

  /** Looks after passes that have not started; says what became of each. */
  tend(passes: readonly { asked: Asked; seen: 'queued' | 'held' | 'missing' }[]): Promise<('kept' | 'unclaimed' | 'dropped' | 'gone')[]> {
    const encoder = this.encode(
      passes.map(({ asked }) => asked),
      true,
    )
    const args = [this.now(), encoder.batch(), DEFAULTS.passCheckMs, DEFAULTS.passGraceMs, ...passes.map(({ seen }) => seen)]
    return scripts.tend.run(this.redis, encoder.keys, args)
  }

  /** Takes calls out of their lines whose deadlines have passed; returns the ids of those that were in one. */
  expire(waiting: readonly { asked: Asked; line: string }[]): Promise<string[]> {
    const encoder = this.encode(
      waiting.map(({ asked }) => asked),
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

  private encode(asked: readonly Asked[], onTheirWay: boolean, lines = true): BatchEncoder {
    const encoder = new BatchEncoder(this.keys, approximateMs(this.clock), lines)
    for (const one of asked) encoder.ask(one, onTheirWay)
    return encoder
  }

  private now(): string {
    return this.clock.forScripts()
  }
}

/** The call as it is kept beside its place in line: what decides about it, with its cost known, and no payload. */
function storedCall({ call, demand }: AskedCall): string {
  const { payload: _payload, id: _id, ...rest } = call
  const known = COST_UNITS.filter((unit) => demand.costs[unit] > 0).map((unit) => [unit, demand.costs[unit]])
  return JSON.stringify({ ...rest, cost: { ...call.cost, ...Object.fromEntries(known) } })
}
