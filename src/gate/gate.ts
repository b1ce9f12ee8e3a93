import type { Redis } from 'ioredis'
import type { Call } from '../call.js'
import type { Clock } from '../clock.js'
import { DEFAULTS } from '../config/defaults.js'
import type { Decision } from '../decision.js'
import type { Keys } from '../redis/keys.js'
import { scripts } from '../redis/scripts.js'
import type { RuleSet } from '../rules/compile.js'
import type { Asked, Settlement } from './asked.js'
import { BatchEncoder } from './batch.js'
import { BLOCK, type Demand, DemandResolver } from './demand.js'
import { type AgainDecision, DecisionReply } from './reply.js'

/** How admit treats a call: see `lua/admit.lua`. */
export type AdmitMode = 'direct' | 'front' | 'start'

/** The front of one line, as a drain is asked to look at it. */
export interface DrainedLine {
  readonly key: string
  /** In the order they stand. */
  readonly calls: readonly Asked[]
}

/** The scripts over meters, lines and ledger, as functions: one call, one round trip, no state of its own. */
export class Gate {
  readonly keys: Keys
  private readonly redis: Redis
  private readonly clock: Clock
  private resolver: DemandResolver

  constructor(redis: Redis, keys: Keys, clock: Clock, ruleSet: RuleSet) {
    this.redis = redis
    this.keys = keys
    this.clock = clock
    this.resolver = new DemandResolver(ruleSet, keys)
  }

  get rules(): RuleSet {
    return this.resolver.ruleSet
  }
  set rules(ruleSet: RuleSet) {
    if (ruleSet.version !== this.resolver.ruleSet.version) this.resolver = new DemandResolver(ruleSet, this.keys)
  }

  needsTokens(call: Call): boolean {
    return this.resolver.needsTokens(call)
  }

  /** The meters a call meets under the rules in force. */
  demand(call: Call, tokens: number): Demand {
    return this.resolver.resolve(call, tokens)
  }

  /** Asks and charges at once, or refuses. */
  async direct(asked: readonly Asked[]): Promise<Decision[]> {
    return (await this.admit('direct', asked, [], [])) as Decision[]
  }

  /** The front door: promises room or finds a place in line. */
  async front(asked: readonly Asked[]): Promise<Decision[]> {
    return (await this.admit('front', asked, [], asked.map(storedCall))) as Decision[]
  }

  /**
   * Settles calls that have ended, then starts others, in one script call.
   * @param kept whether the calls are sent along, to be kept beside their place in line;
   *   without them a newcomer that has to stand in line is answered 'again'
   */
  start(asked: readonly Asked[], ended: readonly Settlement[], kept: boolean): Promise<(Decision | AgainDecision)[]> {
    return this.admit('start', asked, ended, kept ? asked.map(storedCall) : [])
  }

  private async admit(
    mode: AdmitMode,
    asked: readonly Asked[],
    ended: readonly Settlement[],
    stored: readonly string[],
  ): Promise<(Decision | AgainDecision)[]> {
    const encoder = this.encode(asked, mode !== 'direct')
    for (const settlement of ended) encoder.settle(settlement, true)
    const args = [this.now(), encoder.batch(), mode, DEFAULTS.lookaheadMs, DEFAULTS.holdMaxMs, DEFAULTS.passCheckMs, ...stored]
    const reply = new DecisionReply(await scripts.admit.run(this.redis, encoder.keys, args), asked.length, encoder.parts)
    return asked.map(({ demand }, index) => reply.decision(index, demand))
  }

  /** What admit would answer a newcomer; changes nothing. */
  async peek(asked: readonly Asked[]): Promise<Decision[]> {
    const encoder = this.encode(asked, false)
    const reply = new DecisionReply(await scripts.peek.run(this.redis, encoder.keys, [this.now(), encoder.batch()]), asked.length, encoder.parts)
    return asked.map(({ demand }, index) => reply.decision(index, demand) as Decision)
  }

  /** Closes ledger entries; per call whether there was one open under its token. */
  async settle(settlements: readonly Settlement[]): Promise<boolean[]> {
    const encoder = new BatchEncoder(this.keys)
    for (const settlement of settlements) encoder.settle(settlement, false)
    const settled = await scripts.settle.run(this.redis, encoder.keys, [this.now(), encoder.batch()])
    return settled.map((one) => one === 1)
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

  /** The call's agent asked to be left alone: gives back its charge, blocks the agent's meter, puts the call at the head of its line. */
  async announce(asked: Asked, retryAfterMs: number): Promise<{ blockedMs: number }> {
    const encoder = this.encode([asked], true)
    const place = asked.demand.parts.findIndex(({ rule }) => rule === BLOCK) + 1
    const args = [this.now(), encoder.batch(), place, retryAfterMs, DEFAULTS.lookaheadMs, storedCall(asked)]
    const [, blockedMs] = await scripts.announce.run(this.redis, encoder.keys, args)
    return { blockedMs: Number(blockedMs) }
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

  /** Extends leases, by their key. */
  renew(leases: ReadonlyMap<string, { leaseMs: number; ids: readonly string[] }>): Promise<number> {
    const args: (string | number)[] = [this.now()]
    for (const { leaseMs, ids } of leases.values()) args.push(leaseMs, JSON.stringify(ids))
    return scripts.renew.run(this.redis, [...leases.keys()], args)
  }

  private encode(asked: readonly Asked[], onTheirWay: boolean): BatchEncoder {
    const encoder = new BatchEncoder(this.keys)
    for (const one of asked) encoder.ask(one, onTheirWay)
    return encoder
  }

  private now(): string {
    return this.clock.forScripts()
  }
}

/** The call as it is kept beside its place in line: what decides about it, with its cost known, and no payload. */
function storedCall({ call, demand }: Asked): string {
  const { payload: _payload, id: _id, ...rest } = call
  return JSON.stringify({ ...rest, cost: { requests: demand.requests, tokens: demand.tokens } })
}
