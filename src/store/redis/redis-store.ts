import type { Redis } from 'ioredis'
import { type Asked, weightOf } from '../../admission/request.js'
import type { ActualCosts } from '../../model/cost.js'
import type { RejectDecision, RunDecision } from '../../model/decision.js'
import { DEFAULTS, UNKNOWN_ACTOR } from '../../model/defaults.js'
import { approximateMs, type Clock } from '../../model/time.js'
import type { Announced, Announcement, Known, Observation } from '../../model/upstream.js'
import { readFigures } from '../ledger-figures.js'
import { LedgerNames } from '../ledger-names.js'
import type { Admission, LedgerFigures, Store, Swapped } from '../store.js'
import { Turn } from './batcher.js'
import type { Gate } from './script-client.js'

/** What is done around each script call: see `src/outage/guarded-store.ts`. */
export interface Around {
  admits(asked: readonly Asked[], send: () => Promise<Admission[]>): Promise<Admission[]>
  peeks(asked: readonly Asked[], send: () => Promise<(RunDecision | RejectDecision)[]>): Promise<(RunDecision | RejectDecision)[]>
}

const NOTHING_AROUND: Around = { admits: (_, send) => send(), peeks: (_, send) => send() }

/** Meters in Redis, for every process that shares it. What is asked in one turn of the event loop travels together. */
export class RedisStore implements Store {
  private readonly gate: Gate
  private readonly redis: Redis
  private readonly clock: Clock
  private readonly actor: string
  private readonly ledgers = new LedgerNames()
  private readonly admits: Turn<Asked, Admission>
  private readonly peeks: Turn<Asked, RunDecision | RejectDecision>

  /** @param options.actor who resets meters, as the audit says; options.around what guards each script call */
  constructor(gate: Gate, redis: Redis, clock: Clock, { actor = UNKNOWN_ACTOR, around = NOTHING_AROUND }: { actor?: string; around?: Around } = {}) {
    this.actor = actor
    this.gate = gate
    this.redis = redis
    this.clock = clock
    this.admits = new Turn(DEFAULTS.batchKeys, weightOf, (asked) => around.admits(asked, () => this.send(asked)))
    this.peeks = new Turn(DEFAULTS.batchKeys, weightOf, (asked) => around.peeks(asked, () => gate.peek(asked) as Promise<(RunDecision | RejectDecision)[]>))
  }

  admit(asked: Asked): Promise<Admission> {
    return this.admits.ask(asked)
  }

  peek(asked: Asked): Promise<RunDecision | RejectDecision> {
    return this.peeks.ask(asked)
  }

  async record(asked: Asked): Promise<Admission> {
    const [entered] = this.enter([asked]) as [Asked]
    const [decision] = await this.gate.record([entered])
    return { asked: entered, decision: decision as RunDecision }
  }

  async settle(asked: Asked, actual: ActualCosts, how: 'end' | 'part'): Promise<boolean> {
    const [settled] = await this.gate.settle([{ asked, actual }], how)
    return settled === true
  }

  async release(asked: Asked): Promise<boolean> {
    return (await this.gate.release(asked)) === 'S'
  }

  announce(asked: Asked, announcement: Announcement): Promise<Announced> {
    return this.gate.announce(asked, announcement)
  }

  known(asked: readonly Asked[]): Promise<readonly Known[]> {
    return this.gate.known(asked)
  }

  async observed(): Promise<readonly Observation[]> {
    const told = await this.redis.hgetall(this.gate.keys.upstream)
    return Object.values(told).map((one) => JSON.parse(one) as Observation)
  }

  reset(asked: Asked): Promise<void> {
    return this.gate.reset(asked, this.actor)
  }

  swap(name: string, key: string, was: string, becomes: string, keepMs: number): Promise<Swapped> {
    return this.gate.swap(this.gate.keys.custom(name, key), was, becomes, keepMs)
  }

  async figures(): Promise<LedgerFigures> {
    return readFigures(await this.redis.hgetall(this.gate.keys.figures), approximateMs(this.clock))
  }

  /** Checks that travel together share one ledger; one with an id of its own has its own entry, found by that id. */
  private enter(asked: readonly Asked[]): Asked[] {
    const ledger = this.ledgers.next()
    return asked.map((one, index) =>
      one.call.id !== undefined || one.forGood === true ? one : { ...one, id: `${ledger}.${index}`, token: String(index), ledger },
    )
  }

  private async send(asked: readonly Asked[]): Promise<Admission[]> {
    const entered = this.enter(asked)
    const decisions = (await this.gate.direct(entered)) as (RunDecision | RejectDecision)[]
    return entered.map((one, index) => ({ asked: one, decision: decisions[index] as RunDecision | RejectDecision }))
  }
}
