import fc from 'fast-check'
import { Redis } from 'ioredis'
import { expect, onTestFinished, test } from 'vitest'
import type { AdmissionRequest, CallRequest, MeterRef, Settlement } from '../../src/admission/request.js'
import type { Call, Decision, GivenClock, RuleSpec } from '../../src/index.js'
import { type ActualCosts, AS_ESTIMATED, COST_UNITS, type Costs } from '../../src/model/cost.js'
import { GivenClock as Clock } from '../../src/model/time.js'
import { SumsReply } from '../../src/store/redis/decoder.js'
import { ScriptClient } from '../../src/store/redis/script-client.js'
import { SumsEncoder } from '../../src/store/redis/sums-encoder.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { requestOf, resolverOf, T0 } from '../support/script-client.js'

// Sums add up what the general way adds one by one. With windows of a power of two, amounts and times in quarters, no
// double is ever rounded, so that both ways must leave the same bytes.
const WINDOW = '1024ms'
const LONG = '65536ms'

const RULES: RuleSpec[] = [
  {
    name: 'account',
    scope: 'agent',
    limits: [
      { requests: 64, per: WINDOW, burst: 24 },
      { tokens: 4096, per: LONG, burst: 2048 },
      { requests: 300, per: 'day', algorithm: 'fixed_window', timezone: 'Europe/Berlin' },
    ],
  },
  {
    name: 'org',
    scope: 'org',
    limits: [
      { name: 'f', requests: 16, per: WINDOW, algorithm: 'fixed_window' },
      { name: 's', tokens: 2048, per: LONG, algorithm: 'sliding_window' },
      { name: 'p', points: 32, per: WINDOW },
    ],
  },
  {
    name: 'user',
    scope: ['org', 'user'],
    limits: [
      { name: 'm', usd: 8, per: LONG },
      { name: 'o', outputTokens: 512, per: WINDOW, burst: 256 },
      { name: 'w', requests: 12, per: 'week', algorithm: 'fixed_window' },
    ],
  },
  { name: 'even', scope: 'user', match: { agents: ['even'] }, limits: [{ requests: 256, per: LONG, algorithm: 'leaky_bucket' }] },
  { name: 'slots', scope: 'user', match: { agents: ['slots'] }, limits: [{ concurrency: 2 }] },
  { name: 'log', scope: 'user', match: { agents: ['log'] }, limits: [{ requests: 9, per: LONG, algorithm: 'sliding_log' }] },
  { name: 'hard', scope: 'user', match: { agents: ['hard'] }, strategy: 'hard', limits: [{ tokens: 4096, per: LONG }] },
]

/** The same with other limits: rates, amounts, an order, an algorithm and a limit fewer. */
const OTHERS: RuleSpec[] = RULES.map((rule) => {
  if (rule.name === 'account') return { ...rule, limits: rule.limits.map((limit) => (limit.tokens === undefined ? limit : { ...limit, tokens: 8192 })) }
  if (rule.name !== 'org') return rule
  return {
    ...rule,
    limits: [
      { name: 'p', points: 16, per: WINDOW, algorithm: 'fixed_window' },
      { name: 'f', requests: 64, per: LONG },
    ],
  }
})

const quarters = (most: number) => fc.integer({ min: 0, max: 4 * most }).map((n) => n / 4)
const few = (most: number) => fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, { weight: 3, arbitrary: quarters(most) })

const costs: fc.Arbitrary<Costs> = fc.record({
  requests: fc.constantFrom(1, 1, 1, 2, 0),
  tokens: few(200),
  inputTokens: fc.constant(0),
  outputTokens: few(20),
  usd: few(1),
  points: few(4),
  uncachedInputTokens: fc.constant(0),
})

const call: fc.Arbitrary<Call> = fc.record({
  agent: fc.constantFrom('plain', 'plain', 'plain', 'plain', 'even', 'slots', 'log', 'hard'),
  org: fc.constantFrom('a', 'b'),
  user: fc.constantFrom('x', 'y', 'z'),
})

const one = fc.record({ call, costs, forGood: fc.constantFrom(false, false, true), lifted: fc.constantFrom(0, 0, 0, 1) })

/** Starts that nearly all may be decided on by sums. */
const start = one.map(
  (some): One => ({ ...some, lifted: 0, call: { ...some.call, agent: some.call.agent === 'slots' || some.call.agent === 'log' ? 'plain' : some.call.agent } }),
)

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.oneof(quarters(50), quarters(3000), quarters(200_000)) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.oneof(quarters(50_000), quarters(400_000)).map((ms) => -ms) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('check' as const), all: fc.array(one, { minLength: 1, maxLength: 9 }) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('start' as const),
      all: fc.array(fc.oneof({ weight: 20, arbitrary: start }, { weight: 1, arbitrary: one }), { minLength: 1, maxLength: 6 }),
      ends: fc.array(fc.record({ which: fc.nat(), share: fc.constantFrom(-1, -1, 0, 0.5, 1, 4) }), { maxLength: 6 }),
      lock: fc.constantFrom('mine', 'mine', 'mine', 'mine', 'mine', 'of another', null),
      again: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('record' as const), one }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      how: fc.constantFrom('end' as const, 'part' as const, 'release' as const),
      which: fc.nat(),
      share: fc.constantFrom(0, 0.25, 0.5, 1, 2, 8),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('enqueue' as const), one, id: fc.constantFrom('1x', '2x', '3x') }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('leave' as const), id: fc.constantFrom('1x', '2x', '3x') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('report' as const), ms: quarters(2000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('rules' as const), which: fc.constantFrom(0, 1) }) },
)
type Step = typeof step extends fc.Arbitrary<infer Some> ? Some : never
type One = typeof one extends fc.Arbitrary<infer Some> ? Some : never

/** The meter under an override that lifts its last limits. */
function lifted(meter: MeterRef, limits: number): MeterRef {
  const { rule } = meter
  return limits === 0 || rule.limits.length <= limits
    ? meter
    : { rule: { ...rule, active: rule.limits.length - limits }, value: meter.value, keys: meter.keys, line: meter.line }
}

/** One namespace in two databases of Redis: what is done in one is done in the other, but for sums. */
class Twins {
  onSums = 0
  refused = 0
  startedOnSums = 0
  startsRefused = 0
  private readonly clock: GivenClock = new Clock(T0)
  private readonly versions: readonly { sums: ScriptClient; each: ScriptClient }[]
  private version = 0
  private readonly open: AdmissionRequest[] = []
  private readonly waiting = new Map<string, One>()
  private batches = 0
  private sent = 0

  constructor(
    private readonly namespace: Namespace,
    private readonly other: Redis,
  ) {
    this.versions = [RULES, OTHERS].map((rules) => {
      const resolver = resolverOf(namespace, rules)
      return { sums: new ScriptClient(namespace.redis, resolver, this.clock), each: new ScriptClient(other, resolver, this.clock) }
    })
  }

  async do(one: Step): Promise<void> {
    switch (one.do) {
      case 'pass':
        return this.clock.advance(one.ms)
      case 'rules':
        this.version = one.which
        return
      case 'check':
        return this.check(one.all)
      case 'start':
        return this.start(one)
      case 'record':
        return this.record(one.one)
      case 'end':
        return this.end(one)
      case 'enqueue':
        return this.enqueue(one.id, one.one)
      case 'leave':
        return this.leave(one.id)
      case 'report':
        return this.report(one.ms)
      default:
        return one satisfies never
    }
  }

  /** Both databases hold the same. */
  async compare(): Promise<void> {
    expect(await contentsOf(this.namespace.redis, this.namespace)).toEqual(await contentsOf(this.other, this.namespace))
  }

  async forget(): Promise<void> {
    for (const redis of [this.namespace.redis, this.other]) {
      const keys = await keysOf(redis, this.namespace)
      if (keys.length > 0) await redis.del(...keys)
    }
  }

  private get clients() {
    return this.versions[this.version] as { sums: ScriptClient; each: ScriptClient }
  }

  private requests(all: readonly One[], ledger: string): AdmissionRequest[] {
    return all.map(({ call, costs, forGood, lifted: limits }, index) => {
      const { meters, counted } = this.clients.sums.resolver.resolve(call, costs)
      const request = { call: {}, meters: meters.map((meter) => lifted(meter, limits)), costs, counted }
      return forGood ? { ...request, id: `${ledger}-${index}`, token: '', forGood } : { ...request, id: `${ledger}.${index}`, token: String(index), ledger }
    })
  }

  private async check(all: readonly One[]): Promise<void> {
    const ledger = `~~/t.${++this.batches}`
    const encoder = new SumsEncoder(this.namespace.keys, this.clock.nowMs, () => false)
    const summed = all.filter((_, index) => encoder.add(this.requests(all, ledger)[index] as AdmissionRequest))
    const others = all.filter((one) => !summed.includes(one))
    if (summed.length > 0) await this.checkSummed(this.requests(summed, ledger), encoder, ledger)
    if (others.length > 0) await this.checkEach(this.requests(others, `${ledger}o`))
  }

  private async checkSummed(requests: readonly AdmissionRequest[], encoder: SumsEncoder, ledger: string): Promise<void> {
    const before = await contentsOf(this.namespace.redis, this.namespace)
    const reply = await this.clients.sums.checkSums(encoder, ledger)
    if (!(reply instanceof SumsReply)) {
      this.refused++
      // What is refused leaves everything as it was.
      expect(await contentsOf(this.namespace.redis, this.namespace)).toEqual(before)
      return this.checkEach(requests)
    }
    this.onSums++
    const decisions = await this.clients.each.check(requests)
    for (const [index, request] of requests.entries()) {
      expect(whole(decisions[index] as Decision)).toEqual(whole(reply.run(request)))
      if (request.forGood !== true) this.open.push(request)
    }
    await this.compare()
    // A copy of it that comes later changes nothing, and is refused: its calls are found in their ledger.
    const after = await contentsOf(this.namespace.redis, this.namespace)
    if (requests.some(({ forGood }) => forGood !== true)) expect(await this.clients.sums.checkSums(encoder, ledger)).not.toBeInstanceOf(SumsReply)
    expect(await contentsOf(this.namespace.redis, this.namespace)).toEqual(after)
  }

  private async checkEach(requests: readonly AdmissionRequest[]): Promise<void> {
    const [one, other] = [await this.clients.sums.check(requests), await this.clients.each.check(requests)]
    expect(one.map(whole)).toEqual(other.map(whole))
    for (const [index, request] of requests.entries()) if (one[index]?.outcome === 'run' && request.forGood !== true) this.open.push(request)
  }

  /** A worker settles what has ended, and starts calls, one of which may be enqueued already. */
  private async start({ all, ends, lock, again }: Step & { do: 'start' }): Promise<void> {
    const number = ++this.batches
    const key = this.namespace.keys.jobLock('calls', String(number))
    for (const redis of [this.namespace.redis, this.other]) if (lock !== null) await redis.set(key, lock, 'PX', 3_600_000)
    const ledger = `~~/s.${number}`
    const requests = this.requests(
      all.map((one) => ({ ...one, forGood: false })),
      ledger,
    ).map((request, index): CallRequest => {
      const { call } = all[index] as One
      const id = index === 0 && number % 4 === 0 ? 'calls/1x' : `calls/s${number}.${index}`
      return {
        ...request,
        id,
        call: index === 1 && number % 5 === 0 ? { ...call, deadline: new Date(this.clock.nowMs + 5) } : call,
        lock: { key, token: 'mine' },
      }
    })
    const ended = ends.flatMap(({ which, share }): Settlement[] => {
      const [request] = this.open.splice(which % Math.max(1, this.open.length), 1)
      if (request === undefined) return []
      const known = COST_UNITS.map((unit) => [unit, share < 0 ? undefined : request.costs[unit] * share])
      return [{ request, actual: { ...AS_ESTIMATED, ...Object.fromEntries(known) } }]
    })
    const { sums, each } = this.clients
    const encoder = new SumsEncoder(this.namespace.keys, this.clock.nowMs, () => false)
    const fits = requests.every((request) => encoder.addStart(request))
    const sender = { name: 'w', next: () => ++this.sent }
    const reply = fits ? await sums.startSums(encoder, ended, ledger, sender) : undefined
    const decisions = await each.start(requests, ended, false, sender)
    const last = ++this.sent
    // The one way sends more batches than the other.
    const alike = async () => {
      for (const redis of [this.namespace.redis, this.other]) await redis.set(this.namespace.keys.sender('w'), this.sent, 'PX', 3_600_000)
    }
    if (reply instanceof SumsReply) {
      this.startedOnSums++
      for (const [index, request] of requests.entries()) expect(whole(decisions[index] as Decision)).toEqual(whole(reply.run(request)))
      await alike()
      await this.compare()
      // A copy of it, and one that the general way gets after all, start nothing a second time.
      if (again) {
        const after = await contentsOf(this.namespace.redis, this.namespace)
        expect(await sums.startSums(encoder, ended, ledger, { name: 'w', next: () => last })).not.toBeInstanceOf(SumsReply)
        const found = await sums.start(requests, [], false, { name: 'w', next: () => last })
        expect(found.map(({ outcome }) => outcome)).toEqual(requests.map(() => 'run'))
        expect(await contentsOf(this.namespace.redis, this.namespace)).toEqual(after)
      }
    } else {
      if (fits) this.startsRefused++
      const own = await sums.start(requests, fits ? [] : ended, false, sender)
      expect(own.map((one) => whole(one as Decision))).toEqual(decisions.map((one) => whole(one as Decision)))
    }
    await alike()
    for (const [index, request] of requests.entries()) if (decisions[index]?.outcome === 'run') this.open.push(request)
  }

  private async record(one: One): Promise<void> {
    const requests = this.requests([one], `~~/r.${++this.batches}`)
    for (const client of [this.clients.sums, this.clients.each]) await client.decideEach('record', requests)
    if (!one.forGood) this.open.push(...requests)
  }

  private async end({ how, which, share }: Step & { do: 'end' }): Promise<void> {
    const [request] = this.open.splice(which % Math.max(1, this.open.length), 1)
    if (request === undefined) return
    const known = COST_UNITS.map((unit) => [unit, request.costs[unit] * share])
    const actual: ActualCosts = { ...AS_ESTIMATED, ...Object.fromEntries(known) }
    for (const client of [this.clients.sums, this.clients.each]) {
      if (how === 'release') await client.release(request)
      else await client.settle([{ request, actual }], how)
    }
    if (how === 'part') this.open.push(request)
  }

  /** A call that waits in a line, or was woken and claims its room. */
  private async enqueue(id: string, one: One): Promise<void> {
    this.waiting.set(id, one)
    const call = { ...one.call, cost: one.costs }
    for (const client of [this.clients.sums, this.clients.each]) await client.enqueue([requestOf(client, id, call)], 'calls')
  }

  private async leave(id: string): Promise<void> {
    const one = this.waiting.get(id)
    if (one === undefined) return
    const call = { ...one.call, cost: one.costs }
    for (const client of [this.clients.sums, this.clients.each]) await client.release({ ...requestOf(client, id, call), ledger: undefined })
  }

  private async report(ms: number): Promise<void> {
    const report = { kind: 'paused' as const, retryAfterMs: ms, reduceFactor: 0.5, name: { agent: 'even' }, observed: null }
    for (const client of [this.clients.sums, this.clients.each]) await client.reportUpstream(client.resolver.blockOf({ agent: 'even' }), report)
  }
}

/** A decision with its usage, which is read when it is asked for. */
function whole(decision: Decision): object {
  return { ...decision, usage: decision.usage }
}

async function keysOf(redis: Redis, { keys }: Namespace): Promise<string[]> {
  const found: string[] = []
  for await (const batch of redis.scanStream({ match: `${keys.prefix.replace(/[{}]/g, '\\$&')}*`, count: 1000 })) found.push(...(batch as string[]))
  return found.sort()
}

async function contentOf(redis: Redis, key: string): Promise<unknown> {
  switch (await redis.type(key)) {
    case 'string':
      return (await redis.getBuffer(key))?.toString('hex')
    case 'hash':
      return Object.entries(await redis.hgetallBuffer(key))
        .map(([field, value]) => [field, value.toString('hex')])
        .sort()
    default:
      return redis.zrange(key, '0', '-1', 'WITHSCORES')
  }
}

/** Every key with its value, and its time to live as far as that does not depend on when the test looks. */
async function contentsOf(redis: Redis, namespace: Namespace): Promise<Record<string, unknown>> {
  const keys = await keysOf(redis, namespace)
  const entries = keys.map(async (key) => [key, await contentOf(redis, key), Math.round((await redis.pttl(key)) / 600_000)])
  return Object.fromEntries((await Promise.all(entries)).map(([key, ...what]) => [key, what]))
}

test('what is decided on sums is what is decided call by call: decisions, meters, ledgers and figures, to the last bit', async () => {
  const namespace = newNamespace()
  const other = new Redis(namespace.url, { db: 1 })
  onTestFinished(() => other.disconnect())
  const times = { onSums: 0, refused: 0, startedOnSums: 0, startsRefused: 0 }
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const twins = new Twins(namespace, other)
      await twins.forget()
      for (const one of steps) {
        await twins.do(one)
        await twins.compare()
      }
      for (const way of Object.keys(times) as (keyof typeof times)[]) times[way] += twins[way]
      await twins.forget()
    }),
    { numRuns: runs(80) },
  )
  // Both ways out are met often, or the test proves little.
  for (const often of Object.values(times)) expect(often).toBeGreaterThan(30)
})
