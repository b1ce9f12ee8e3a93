import type { RuleSpec, Tollgate, TollgateOptions } from '../../../src/index.js'
import type { Fact, FactLimit, FactScope, FaultKind } from '../oracles/facts.js'
import { connectorOf } from '../world/connection.js'
import { enter } from '../world/node-clock.js'
import type { SimProcess } from '../world/process.js'
import type { Random } from '../world/random.js'
import { SimRedis } from '../world/redis.js'
import { EPOCH_MS, type RealServer } from '../world/server.js'
import { World } from '../world/world.js'
import type { FleetCall } from './calls.js'
import { RepeatedCharges } from './charges.js'
import { limitsOfRule, type OverrideInFleet } from './limits-of-rules.js'
import type { Program } from './program.js'
import type { Feature, FleetSpec, WorkerSpec } from './spec.js'

export const NAMESPACE = 'fleet'

/** A process that has opened a Tollgate, with the one it opened. */
export interface Member {
  readonly process: SimProcess
  readonly tollgate: Tollgate
}

export interface WorkerProcess {
  readonly spec: WorkerSpec
  readonly process: SimProcess
  /** Set once it takes calls. */
  up: boolean
  member: Member | undefined
}

/** How an agent behaves now. */
export interface AgentState {
  refusals: { left: number; untilMs: number; retryAfterMs: number }
  /** Usage is multiplied by this until then. */
  odd: { untilMs: number; factor: number }
}

export interface FleetOptions {
  readonly keepLines?: number
  readonly details?: boolean
}

/** A fleet at work: the world, its Redis, its processes, and the facts that are noted about them. Apps, workers, the operator and faults share it. */
export class Fleet {
  readonly world: World
  readonly redis: SimRedis
  readonly facts: Fact[] = []
  /** Every call that was asked for, by its name. The name is in the call's payload, so an agent knows it whatever id the call has. */
  readonly calls = new Map<string, FleetCall>()
  readonly workers: WorkerProcess[] = []
  readonly apps: { readonly process: SimProcess; finished: boolean; member: Member | undefined }[] = []
  readonly agents = new Map<string, AgentState>()
  readonly repeated = new RepeatedCharges()
  operator: Member | undefined
  /** The rules in force, and the overrides on them. */
  rules: RuleSpec[]
  overrides: OverrideInFleet[] = []
  private runs = 0
  private names = 0

  constructor(
    readonly program: Program,
    readonly spec: FleetSpec,
    server: RealServer,
    options: FleetOptions = {},
  ) {
    this.world = new World(spec.seed, options)
    this.redis = new SimRedis(this.world, server)
    this.rules = [...spec.rules]
    for (const agent of spec.agents) this.agents.set(agent, { refusals: { left: 0, untilMs: 0, retryAfterMs: 0 }, odd: { untilMs: 0, factor: 1 } })
    enter(this.world)
  }

  get nowMs(): number {
    return this.world.nowMs
  }

  has(feature: Feature): boolean {
    return this.spec.features.includes(feature)
  }

  stream(name: string): Random {
    return this.world.chance.stream(name)
  }

  note(fact: Fact): void {
    this.facts.push(fact)
  }

  fault(kind: FaultKind, text: string, concerns: Partial<Extract<Fact, { fact: 'fault' }>> = {}): void {
    this.world.note('fault', `${kind}: ${text}`)
    this.note({ fact: 'fault', atMs: this.nowMs, untilMs: this.nowMs, fault: kind, text, ...concerns })
  }

  nextRun(): number {
    return ++this.runs
  }

  nextName(): string {
    return `k${++this.names}`
  }

  /** Notes the limits that hold from now on. */
  noteLimits(): void {
    const limits = this.rules.filter(({ enabled }) => enabled !== false).flatMap((rule) => limitsOfRule(rule, this.overrides, (by) => this.keysOf(by)))
    this.note({ fact: 'limits', atMs: this.nowMs, limits: this.has('limiter') ? [...limits, ...LIMITERS] : limits })
  }

  /** Every combination of values that calls of this fleet have in these fields. */
  keysOf(by: readonly FactScope[]): string[] {
    const { agents, orgs, users } = this.spec
    const values: Partial<Record<FactScope, readonly string[]>> = { agent: agents, org: orgs, user: users }
    return by.reduce<string[]>((keys, scope) => keys.flatMap((key) => (values[scope] ?? []).map((value) => (key === '' ? value : `${key}/${value}`))), [''])
  }

  /** Opens a Tollgate in a process, on connections of the simulation. */
  async open(process: SimProcess, options: TollgateOptions = {}): Promise<Member> {
    const { Redis, Tollgate } = this.program
    const redis = new Redis({
      Connector: this.connectorOf(process),
      lazyConnect: true,
      maxRetriesPerRequest: null,
      retryStrategy: (tries) => Math.min(1000, tries * 50),
    })
    const strategies = { wait: () => ({ outcome: 'wait' as const }) }
    // What the oracles judge: limits that hold to the call. Shares and a start without Redis are judged by the chaos tests.
    const strict = { requireRedis: true, onStoreError: 'closed' } as const
    const logger = this.logger(process) as never
    const tollgate = await Tollgate.open({ redis, namespace: NAMESPACE, logger, actor: process.name, strategies, ...strict, ...options })
    return { process, tollgate }
  }

  /** ioredis types the connector by its own class, whose TCP socket the simulation does not have. */
  connectorOf(process: SimProcess): never {
    return connectorOf(this.world, this.redis, process) as never
  }

  /** Waits until the operator has declared the rules. */
  async ready(): Promise<void> {
    while (this.operator === undefined) await sleep(20)
  }

  /** Runs a step in a process, if it lives. An error is one of the program's. */
  inProcess(process: SimProcess, what: string, step: () => Promise<void>): void {
    this.world.at(this.nowMs, process, what, () => {
      step().catch((error: unknown) => {
        if (!process.dead) this.world.failed(process, error)
      })
    })
  }

  /** At a time since the beginning, outside of all processes. */
  at(ms: number, what: string, step: () => void | Promise<void>): void {
    this.world.at(EPOCH_MS + ms, null, what, step)
  }

  private logger(process: SimProcess) {
    const write = (level: string) => (first: unknown, second?: unknown) => {
      const { err, call } = (typeof first === 'object' && first !== null ? first : {}) as { err?: Error; call?: string }
      const text = typeof first === 'string' ? first : String(second ?? '')
      this.world.note(process.name, `logs ${level}: ${text}${call === undefined ? '' : ` (${call})`}${err === undefined ? '' : `: ${err.message}`}`)
    }
    const silent = () => {}
    const logger = { level: 'warn', trace: silent, debug: silent, info: silent, warn: write('warn'), error: write('error'), fatal: write('fatal') }
    return { ...logger, child: () => logger }
  }
}

/** The limiters by key that some fleets use beside the queue. */
export const LIMITER = { perSecond: 5, burst: 5 } as const
/** Of one org, in any second: less than its users may have together. */
export const ORG_LIMITER = 4
const LIMITERS: readonly FactLimit[] = [
  { name: '~~by-user/by-user', by: ['ip'], unit: 'requests', form: { kind: 'bucket', ...LIMITER } },
  { name: '~~by-org/by-org', by: ['endpoint'], unit: 'requests', form: { kind: 'sliding window', limit: ORG_LIMITER, windowMs: 1000 } },
]

/** By the clock of the simulation. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => globalThis.setTimeout(resolve, ms))
}
