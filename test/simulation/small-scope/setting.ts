import type { CallRequest } from '../../../src/admission/request.js'
import type { Costs } from '../../../src/model/cost.js'
import type { LineScan } from '../../../src/queue/line-scan.js'
import type { Keys } from '../../../src/redis/keys.js'
import type { ScriptClient } from '../../../src/store/redis/script-client.js'
import type { Sender } from '../../../src/store/redis/sending.js'
import { EPOCH_MS } from '../world/server.js'
import { copyOf, label, type Model, type Start } from './model.js'
import type { Program } from './program.js'
import type { RedisStates } from './redis-states.js'
import type { Scope } from './scope.js'

const QUEUE = 'calls'

/** Something that may happen next. It makes one script call at most, so that any two processes can meet between any two script calls. */
export interface Action {
  readonly name: string
  /** step: a process does what it has to do next. fault: something goes wrong, or is done from outside. time: nothing happens for a while. */
  readonly kind: 'step' | 'fault' | 'time'
  /** Whether no other process can tell when it happens. Where nothing can go wrong with its process any more, it is taken before all others. */
  readonly unseen?: true
  /** Changes the model it is given, and Redis. */
  run(model: Model): Promise<void> | void
}

/** What all actions of an exploration share: the program, its Redis, and the calls under each version of the rules. */
export class Setting {
  readonly queue = QUEUE
  readonly keys: Keys
  readonly clients: readonly ScriptClient[]
  readonly scan: LineScan
  private readonly requests: readonly (readonly CallRequest[])[]
  private readonly found: string[] = []
  private nowMs = 0

  constructor(
    readonly program: Program,
    readonly scope: Scope,
    readonly states: RedisStates,
  ) {
    this.keys = new program.Keys('n')
    const clock = { forScripts: () => '' }
    this.clients = scope.rules.map((rules) => {
      const resolver = new program.Resolver(program.compileRules(rules), this.keys, undefined, scope.upstream)
      return new program.ScriptClient(states.client, resolver, clock)
    })
    this.requests = this.clients.map((client) =>
      scope.calls.map((call, index) => {
        const costs = client.resolver.costs(call) as Costs
        return program.callRequest(client, this.idOf(index), '', { ...call, cost: { ...call.cost, requests: 1 } }, costs)
      }),
    )
    // The scan is told the time, since its own clock goes on while an exploration goes back.
    this.scan = new program.LineScan(states.client, this.client(0), { forScripts: () => String(EPOCH_MS + this.nowMs) })
  }

  /** Loads the program's scripts into Redis. */
  async prepare(): Promise<void> {
    await this.states.prepare()
    this.at([], 0)
    await this.client(0).peek([this.request(0, 0)])
    // The first look of a scan is at all lines.
    await this.scan.due()
  }

  /** Puts Redis, and the clocks of Redis and of the program, to a state. */
  at(redis: Parameters<RedisStates['begin']>[0], atMs: number, model?: Model): void {
    this.states.begin(redis, atMs, model === undefined ? undefined : this.jobKeys(model))
    this.setTime(atMs)
  }

  /** The jobs and their locks, as BullMQ keeps them. */
  private jobKeys({ jobs, atMs }: Model): Map<string, string> {
    const keys = new Map<string, string>()
    for (const [call, job] of jobs.entries()) {
      // Scripts ask only whether there is a job.
      if (job.state !== 'none' && job.state !== 'removed') keys.set(this.keys.job(this.idOf(call)), '')
      if (job.state !== 'active' || (job.lockEndsMs ?? Number.POSITIVE_INFINITY) <= atMs) continue
      const { key, token } = this.lockOf({ call, attempt: job.attempt })
      keys.set(key, token)
    }
    return keys
  }

  /** The lock of a job that an attempt has, or had. */
  lockOf(start: Pick<Start, 'call' | 'attempt'>): { key: string; token: string } {
    return { key: this.keys.jobLock(QUEUE, `c${start.call}`), token: label(start) }
  }

  setTime(atMs: number): void {
    this.nowMs = atMs
    this.states.setClock(atMs)
  }

  /** The time that the program sees as `Date.now()`. */
  readonly programNow = () => EPOCH_MS + this.nowMs

  client(rules: number): ScriptClient {
    return this.clients[rules] as ScriptClient
  }

  idOf(call: number): string {
    return `${QUEUE}/c${call}`
  }

  callOf(id: string): number {
    return Number(id.slice(QUEUE.length + 2))
  }

  request(call: number, rules: number): CallRequest {
    return this.requests[rules]?.[call] as CallRequest
  }

  /** The request of a start, as it was sent and as its settlement names it. */
  startRequest(start: Start): CallRequest {
    const { batch, ledger = `${this.ledgersOf(start)}${batch}`, place = 0 } = start
    return { ...this.attemptRequest(start), token: String(place), ledger }
  }

  /** The request of an attempt that has not started. */
  attemptRequest(start: Start): CallRequest {
    return { ...this.request(start.call, start.rules), lock: this.lockOf(start) }
  }

  /** Numbers the starts of an attempt; only where any can arrive twice, since Redis is in more states with numbers. */
  senderOf(start: Start): Sender | undefined {
    return this.scope.budget.repeats === 0 ? undefined : { name: label(start), next: () => start.batch + 1 }
  }

  /** How the ledgers of an attempt, and so the names of its slots, begin where it is sent alone. */
  ledgersOf({ call, attempt }: Pick<Start, 'call' | 'attempt'>): string {
    return `~~/c${call}.${attempt}.`
  }

  /** The app that enqueues a call: they take turns. */
  appOf(call: number): number {
    return call % this.scope.apps
  }

  /** The slots that a call holds while it runs. */
  slotsOf(call: number, rules: number): { key: string }[] {
    return this.program.slotsOf(this.request(call, rules))
  }

  /** A check found something wrong; the same text means the same fault. */
  report(text: string): void {
    this.found.push(text)
  }

  takeReports(): string[] {
    return this.found.splice(0)
  }

  firstModel(): Model {
    const { calls, apps, workers, budget } = this.scope
    return copyOf({
      atMs: 0,
      appsUp: calls.map(() => true).slice(0, apps),
      calls: calls.map(() => ({ state: 'new', attempts: 0, starts: 0, excuses: 0 })),
      jobs: calls.map(() => ({ state: 'none' })),
      workers: Array.from({ length: workers }, () => ({ phase: 'idle' })),
      dispatcher: { phase: 'idle' },
      retries: [],
      scansAll: false,
      scanAgainAtMs: 0,
      canceller: { phase: 'idle' },
      runs: [],
      charges: [],
      deadSlots: [],
      agentBlockedUntilMs: 0,
      lateCopies: [],
      rules: { inForce: 0, app: 0, workers: 0, dispatcher: 0 },
      ledger: { opened: 0, settled: 0, released: 0 },
      budget,
    })
  }
}
