import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import type { Call, RuleSpec, Tollgate, TollgateOptions } from '../../src/index.js'
import { Keys } from '../../src/redis/keys.js'
import { openHere } from '../lib/namespace.js'
import { Helper } from '../lib/processes.js'

export const NAMESPACE = 'bench-sick'
export const PER_SECOND = 20
const INTERVAL_MS = 1000 / PER_SECOND
/** Of a job in its worker. That of slots is longer: a worker that is busy for half of it looks like a Redis that was away. */
const LEASE_MS = 1000
/** All participants call the agent `a`, and share these limits. */
export const RULES: readonly RuleSpec[] = [
  { name: 'account', scope: 'agent', match: { agents: ['a'] }, limits: [{ requests: PER_SECOND, per: 'second', burst: 4 }] },
  { name: 'slots', scope: 'agent', match: { agents: ['a'] }, limits: [{ concurrency: 12, lease: '4s' }] },
]
const SILENT = pino({ level: 'silent' })

/** What a sick participant cost the others. */
export interface Harm {
  /** The longest time between two starts, beyond that of the limit. */
  readonly longestGapMs: number
  /** The room that was lost after the participant fell sick, as time of the limit. */
  readonly lostMs: number
  /** How often a call that is refused always reached its agent. */
  readonly refused: number
}

/** Healthy participants that share an account with sick ones: an app with a backlog of calls, and a worker that runs them. */
export class Fleet {
  readonly client: Redis
  readonly keys = new Keys(NAMESPACE)
  /** Of all calls that reached their agent, on a clock that all processes of a machine share. */
  readonly startsMs: number[] = []
  refusing: (id: string) => boolean = () => false
  refused = 0
  private readonly helpers: Helper[] = []

  private constructor(
    readonly url: string,
    readonly tollgate: Tollgate,
  ) {
    this.client = new Redis(url, { maxRetriesPerRequest: null, retryStrategy: () => 50 })
    this.client.on('error', () => {})
  }

  static async open(url: string, options: TollgateOptions = {}): Promise<Fleet> {
    const fleet = new Fleet(url, await openHere({ redis: url, namespace: NAMESPACE, rules: RULES, logger: SILENT, ...options }))
    const worker = fleet.tollgate.worker((_, { id }) => fleet.handle(id), { concurrency: 20, leaseMs: LEASE_MS })
    await worker.bull.waitUntilReady()
    return fleet
  }

  /** A participant in a process of its own. */
  async participant(queue: string): Promise<Helper> {
    const helper = await Helper.start('sick-process', { redis: this.url, namespace: NAMESPACE, queue, leaseMs: LEASE_MS })
    this.helpers.push(helper)
    return helper
  }

  /** Calls for so many seconds of the limit. */
  async backlog(seconds: number, prefix = 'live'): Promise<string[]> {
    const calls = Array.from({ length: seconds * PER_SECOND }, (_, n): Call => ({ agent: 'a', id: `${prefix}-${n}` }))
    const tickets = await this.tollgate.enqueueMany(calls)
    for (const ticket of tickets) void ticket.result().catch(() => {})
    return tickets.map(({ id }) => id)
  }

  /** Lets a time pass, and says what it cost. @param since when the participant fell sick, or when what others wait for was back */
  async harmWithin(ms: number, since = performance.timeOrigin + performance.now()): Promise<Harm> {
    await sleep(ms)
    const endMs = performance.timeOrigin + performance.now()
    // A participant that was stopped could not answer.
    for (const helper of this.helpers) helper.signal('SIGCONT')
    const others = await Promise.all(this.helpers.map((helper) => helper.request<number[]>('starts').catch(() => [])))
    const starts = [...this.startsMs, ...others.flat()].filter((at) => at >= since && at <= endMs).sort((a, b) => a - b)
    const times = [since, ...starts, endMs]
    const longest = Math.max(...times.slice(1).map((at, n) => at - (times[n] as number)))
    return {
      longestGapMs: Math.max(0, longest - INTERVAL_MS),
      lostMs: Math.max(0, endMs - since - starts.length * INTERVAL_MS - INTERVAL_MS),
      refused: this.refused,
    }
  }

  /** What is held of the account: claims, slots, and passes of calls that have not started. */
  async held(): Promise<string[]> {
    const [usage = []] = [(await this.tollgate.gate.peek({ agent: 'a' })).usage]
    const nowMs = Number((await this.client.time())[0]) * 1000
    const slots = await this.client.zcount(this.keys.leases('slots', 'a'), nowMs, '+inf')
    const passes = await this.client.zcard(this.keys.passes)
    const claimed = usage.reduce((sum, one) => sum + one.claimed, 0)
    const held = { claimed, slots, passes }
    return Object.entries(held).flatMap(([what, count]) => (count > 0 ? [`${count} ${what}`] : []))
  }

  /** Cancels the calls that still wait, and waits until nothing is held. @returns what is held at the end of that time */
  async endAll(ms: number): Promise<string[]> {
    const queue = new Queue(this.tollgate.queue, { connection: this.client, prefix: this.tollgate.prefix })
    const waiting = await queue.getJobs(['delayed', 'wait', 'prioritized'])
    await Promise.all(waiting.map(({ id = '' }) => this.tollgate.cancel(id).catch(() => false)))
    await Promise.all(this.helpers.map((helper) => helper.request('cancelAll').catch(() => {})))
    const deadline = performance.now() + ms
    for (;;) {
      const held = await this.held()
      if (held.length === 0 || performance.now() > deadline) return held
      await sleep(100)
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.helpers.map((helper) => helper.stop()))
    await this.tollgate.close()
    this.client.disconnect()
  }

  private async handle(id: string): Promise<null> {
    if (this.refusing(id)) {
      this.refused++
      throw Object.assign(new Error('the agent refuses'), { status: 429, headers: { 'retry-after': '0' } })
    }
    this.startsMs.push(performance.timeOrigin + performance.now())
    await sleep(20)
    return null
  }
}
