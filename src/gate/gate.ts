import type { Redis } from 'ioredis'
import type { Call } from '../call.js'
import type { Clock } from '../clock.js'
import { DEFAULTS } from '../config/defaults.js'
import type { Decision } from '../decision.js'
import type { Keys } from '../redis/keys.js'
import { scripts } from '../redis/scripts.js'
import type { RuleSet } from '../rules/compile.js'
import { type BatchCall, encodeBatch } from './batch.js'
import { BLOCK, type Demand, DemandResolver, strictnessOf } from './demand.js'
import { readReply } from './reply.js'

/** How admit treats a call: see `lua/admit.lua`. */
export type AdmitMode = 'direct' | 'front' | 'start'

/** A call as the gate asks for it. */
export interface Asked {
  readonly id: string
  /** Distinguishes one start of the call from the next; a repeated one is not charged again. */
  readonly token: string
  readonly call: Call
  readonly demand: Demand
  /** The ledger it shares with the calls that are asked for together; its token is its place there. */
  readonly sharedLedger?: string | undefined
  /** The call as kept beside its place in line; '' where it can never stand in line. */
  readonly stored: string
}

/** What a started call really cost; what is not given stays as estimated. */
export interface ActualCost {
  readonly requests?: number | undefined
  readonly tokens?: number | undefined
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

  async admit(mode: AdmitMode, asked: readonly Asked[]): Promise<Decision[]> {
    const { keys, encoded } = encodeBatch(this.keys, asked.map(batchCall))
    const args: (string | number)[] = [this.now(), encoded, mode, DEFAULTS.lookaheadMs, DEFAULTS.holdMaxMs, DEFAULTS.passCheckMs]
    if (mode !== 'direct') for (const { stored } of asked) args.push(stored)
    return readReply(
      await scripts.admit.run(this.redis, keys, args),
      asked.map(({ demand }) => demand),
    )
  }

  /** What admit would answer a newcomer; changes nothing. */
  async peek(asked: readonly Asked[]): Promise<Decision[]> {
    const { keys, encoded } = encodeBatch(this.keys, asked.map(batchCall))
    return readReply(
      await scripts.peek.run(this.redis, keys, [this.now(), encoded]),
      asked.map(({ demand }) => demand),
    )
  }

  /** Closes ledger entries; per call whether there was one open under its token. */
  async settle(settlements: readonly { asked: Asked; actual: ActualCost }[]): Promise<boolean[]> {
    const { keys, encoded } = encodeBatch(
      this.keys,
      settlements.map(({ asked, actual }) => ({ ...batchCall(asked), requests: actual.requests ?? -1, tokens: actual.tokens ?? -1 })),
    )
    const settled = await scripts.settle.run(this.redis, keys, [this.now(), encoded])
    return settled.map((one) => one === 1)
  }

  /**
   * Gives back all a call holds: W its place in line, P its pass, S its charge; '-' it
   * held nothing, R it runs under another token.
   * @param lineKey the line the call stands in, where it is known to stand in one
   */
  async release(asked: Asked, lineKey = ''): Promise<'W' | 'P' | 'S' | 'R' | '-'> {
    const { keys, encoded } = encodeBatch(this.keys, [batchCall(asked)])
    if (lineKey !== '' && !keys.includes(lineKey)) keys.push(lineKey)
    const [held = '-'] = await scripts.release.run(this.redis, keys, [this.now(), encoded, lineKey])
    return held as 'W' | 'P' | 'S' | 'R' | '-'
  }

  /** The call's agent asked to be left alone: gives back its charge, blocks the agent's meter, puts the call at the head of its line. */
  async announce(asked: Asked, retryAfterMs: number): Promise<{ blockedMs: number }> {
    const { keys, encoded } = encodeBatch(this.keys, [batchCall(asked)])
    const place = asked.demand.parts.findIndex(({ rule }) => rule === BLOCK) + 1
    const [, blockedMs] = await scripts.announce.run(this.redis, keys, [this.now(), encoded, place, retryAfterMs, DEFAULTS.lookaheadMs, asked.stored])
    return { blockedMs: Number(blockedMs) }
  }

  /** Wakes who can be woken at the front of the given lines. */
  async drain(lines: readonly DrainedLine[]): Promise<{ nowMs: number; woken: string[]; nextMs: number | null }> {
    const asked = lines.flatMap((line) => line.calls)
    const { keys, encoded } = encodeBatch(this.keys, asked.map(batchCall))
    const meters = meterIndexes(asked)
    const shapes = lines.map(({ key, calls }) => {
      // A line whose rule is gone has no meter in the batch; its key is declared here.
      let index = keys.indexOf(key)
      if (index < 0) index = keys.push(key) - 1
      return [index + 1, meters.get(key) ?? 0, calls.length]
    })
    const [nowMs, woken, nextMs] = await scripts.drain.run(this.redis, keys, [
      this.now(),
      encoded,
      DEFAULTS.lookaheadMs,
      DEFAULTS.passCheckMs,
      JSON.stringify(shapes),
      ...asked.map(({ stored }) => stored),
    ])
    return { nowMs: Number(nowMs), woken, nextMs: Number(nextMs) < 0 ? null : Number(nextMs) }
  }

  /** Looks after passes that have not started; says what became of each. */
  tend(passes: readonly { asked: Asked; seen: 'queued' | 'held' | 'missing' }[]): Promise<('kept' | 'unclaimed' | 'dropped' | 'gone')[]> {
    const { keys, encoded } = encodeBatch(
      this.keys,
      passes.map(({ asked }) => batchCall(asked)),
    )
    return scripts.tend.run(this.redis, keys, [this.now(), encoded, DEFAULTS.passCheckMs, DEFAULTS.passGraceMs, ...passes.map(({ seen }) => seen)])
  }

  /** Extends leases, by their key. */
  renew(leases: ReadonlyMap<string, { leaseMs: number; ids: readonly string[] }>): Promise<number> {
    const args: (string | number)[] = [this.now()]
    for (const { leaseMs, ids } of leases.values()) args.push(leaseMs, JSON.stringify(ids))
    return scripts.renew.run(this.redis, [...leases.keys()], args)
  }

  private now(): string {
    return this.clock.forScripts()
  }
}

/** The front of one line, as a drain is asked to look at it. */
export interface DrainedLine {
  readonly key: string
  /** In the order they stand. */
  readonly calls: readonly Asked[]
}

function batchCall(asked: Asked): BatchCall {
  return {
    id: asked.id,
    demand: asked.demand,
    token: asked.token,
    priority: asked.call.priority ?? 0,
    strictness: strictnessOf(asked.call.strategy),
    sharedLedger: asked.sharedLedger,
  }
}

/** The number of each meter in a batch, by the key of its line; numbered as `encodeBatch` does. */
function meterIndexes(asked: readonly Asked[]): Map<string, number> {
  const indexes = new Map<string, number>()
  for (const { demand } of asked) {
    for (const { keys } of demand.parts) {
      const line = keys[1] as string
      if (!indexes.has(line)) indexes.set(line, indexes.size + 1)
    }
  }
  return indexes
}
