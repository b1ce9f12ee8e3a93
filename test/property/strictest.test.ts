import fc from 'fast-check'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import type { CallRequest } from '../../src/admission/request.js'
import type { Call, Decision, LimitSpec, RuleSpec, Strategy } from '../../src/index.js'
import { StrategyResolver } from '../../src/queue/strategy-resolver.js'
import { forget } from '../support/keys.js'
import { newNamespace } from '../support/namespace.js'
import { runs } from '../support/runs.js'
import { decideBy, givenScriptClient, requestOf } from '../support/script-client.js'
import { SimulatedQueue } from '../support/simulated-queue.js'

// The oracle counts: at one instant a limit has room for what it allows, whatever its algorithm, and a rule that refuses lets in so much of what
// comes, whether it runs or waits for another rule.

const SCOPES = ['agent', 'org', 'user'] as const
const STRICT = ['graceful', 'custom:mine', 'retry_after', 'hard'] as const
const ALGORITHMS = ['token_bucket', 'fixed_window', 'sliding_window', 'sliding_log', 'leaky_bucket'] as const
const ALLOWANCE = 2

interface Rule {
  readonly scope: (typeof SCOPES)[number]
  readonly strategy: Strategy
  readonly unit: 'requests' | 'tokens' | 'concurrency'
  readonly most: number
  readonly per: string
  readonly algorithm: (typeof ALGORITHMS)[number]
}

function ruleOf(strategies: readonly Strategy[], units: readonly Rule['unit'][], pers: readonly string[]): fc.Arbitrary<Rule> {
  return fc.record({
    scope: fc.constantFrom(...SCOPES),
    strategy: fc.constantFrom(...strategies),
    unit: fc.constantFrom(...units),
    most: fc.integer({ min: 1, max: 6 }),
    per: fc.constantFrom(...pers),
    algorithm: fc.constantFrom(...ALGORITHMS),
  })
}

function mostOf({ unit, most }: Rule): number {
  return unit === 'tokens' ? most * 10 : most
}

function specOf(rule: Rule, index: number): RuleSpec {
  const { scope, strategy, unit, per, algorithm } = rule
  const amount = mostOf(rule)
  // A leaky bucket lets one call after the other pass, whatever it allows.
  const even = strategy === 'throttle' || strategy === 'queue'
  const limit: LimitSpec =
    unit === 'concurrency'
      ? { concurrency: amount }
      : ({ [unit]: amount, per, algorithm: algorithm === 'leaky_bucket' && !even ? 'token_bucket' : algorithm } as unknown as LimitSpec)
  const degraded: LimitSpec[] = [{ requests: ALLOWANCE, per: 'day' }]
  return { name: `r${index}`, scope, strategy, limits: [limit], ...(strategy === 'graceful' ? { degraded } : {}) }
}

const call = fc.record({
  agent: fc.constantFrom('a', 'b'),
  org: fc.constantFrom('x', 'y'),
  user: fc.constantFrom('u', 'v'),
  tokens: fc.integer({ min: 1, max: 10 }),
})
type Sent = typeof call extends fc.Arbitrary<infer T> ? T : never

function callOf({ tokens, ...scopes }: Sent): Call {
  return { ...scopes, cost: { tokens } }
}

function costOf({ unit }: Rule, { tokens }: Sent): number {
  return unit === 'tokens' ? tokens : 1
}

/** Counts per rule and scope value. */
class Counts {
  private readonly sums = new Map<string, number>()

  of(rule: number, value: string): number {
    return this.sums.get(`${rule}/${value}`) ?? 0
  }

  add(rule: number, value: string, amount: number): void {
    this.sums.set(`${rule}/${value}`, this.of(rule, value) + amount)
  }
}

test('enqueue answers what the strictest single rule would, which counts all that it has let in, also what waits for another rule', async () => {
  const namespace = newNamespace()
  const rules = fc.array(ruleOf(['queue', 'throttle', ...STRICT], ['requests', 'tokens', 'concurrency'], ['second', 'minute', 'day']), {
    minLength: 1,
    maxLength: 4,
  })
  await fc.assert(
    fc.asyncProperty(rules, fc.array(call, { minLength: 10, maxLength: 40 }), async (given, calls) => {
      await forget(namespace)
      const { scriptClient } = givenScriptClient(namespace, given.map(specOf))
      const resolver = new StrategyResolver(scriptClient, { mine: () => ({ outcome: 'reject' }) }, pino({ level: 'silent' }))
      const [accepted, ran, allowed] = [new Counts(), new Counts(), new Counts()]
      for (const [index, sent] of calls.entries()) {
        const request = requestOf(scriptClient, `c${index}`, callOf(sent))
        const send = async (one: CallRequest) => ({ request: one, decision: (await decideBy(scriptClient, 'enqueue', [one]))[0] as Decision })
        const first = await send(request)
        const { decision } = first.decision.outcome === 'reject' ? await resolver.resolve(request, first.decision, send) : first
        const { outcome } = decision

        const hasRoom = (n: number, counts: Counts) => counts.of(n, sent[(given[n] as Rule).scope]) + costOf(given[n] as Rule, sent) <= mostOf(given[n] as Rule)
        const all = [...given.keys()]
        const isStrict = (n: number) => !['queue', 'throttle'].includes((given[n] as Rule).strategy)
        const refusing = all.filter((n) => isStrict(n) && !hasRoom(n, accepted))
        const strictest = Math.max(...refusing.map((n) => STRICT.indexOf((given[n] as Rule).strategy as (typeof STRICT)[number])))
        const degrades = refusing.length > 0 && STRICT[strictest] === 'graceful'
        const graceful = degrades ? all.filter((n) => (given[n] as Rule).strategy === 'graceful') : []
        const told = `call ${index}: ${outcome}, refused by ${refusing.map((n) => `r${n}`).join(', ')}`
        if (degrades && graceful.every((n) => allowed.of(n, sent[(given[n] as Rule).scope]) < ALLOWANCE)) {
          expect(['degrade', 'wait', 'run'], told).toContain(outcome)
        } else if (refusing.length > 0) {
          expect(outcome, told).toBe('reject')
          if (!degrades) expect(decision, told).toMatchObject({ reason: 'limited', strategy: STRICT[strictest] })
          continue
        } else {
          expect(outcome, told).not.toBe('reject')
          if (all.every((n) => hasRoom(n, accepted) && (given[n] as Rule).algorithm !== 'leaky_bucket' && (given[n] as Rule).strategy !== 'throttle'))
            expect(outcome, told).toBe('run')
          if (all.some((n) => !isStrict(n) && !hasRoom(n, ran))) expect(outcome === 'wait' || 'delayMs' in decision, told).toBe(true)
        }
        for (const n of all) {
          const rule = given[n] as Rule
          const value = sent[rule.scope]
          if (graceful.includes(n)) allowed.add(n, value, 1)
          else {
            accepted.add(n, value, costOf(rule, sent))
            if (outcome !== 'wait') ran.add(n, value, costOf(rule, sent))
          }
        }
      }
      const lines = await namespace.redis.zrange(namespace.keys.lines, '0', '-1')
      for (const [n, { strategy }] of given.entries())
        if (STRICT.some((one) => one === strategy)) expect(lines.filter((line) => line.startsWith(namespace.keys.line(`r${n}`, '')))).toEqual([])
    }),
    { numRuns: runs(60) },
  )
  await forget(namespace)
})

test('what was let in is not refused afterwards: it starts when its lines have moved, no budget is exceeded, and nothing stays claimed', async () => {
  const namespace = newNamespace()
  const rules = fc
    .tuple(
      fc.array(ruleOf(['hard', 'retry_after'], ['requests', 'tokens'], ['day']), { minLength: 1, maxLength: 3 }),
      fc.array(ruleOf(['queue'], ['requests', 'tokens', 'concurrency'], ['second']), { minLength: 1, maxLength: 3 }),
    )
    .map(([strict, lax]) => [...strict, ...lax])
  const cancelled = fc.array(fc.nat(), { maxLength: 5 })
  await fc.assert(
    fc.asyncProperty(rules, fc.array(call, { minLength: 5, maxLength: 25 }), cancelled, async (given, calls, cancels) => {
      await forget(namespace)
      const { scriptClient, clock } = givenScriptClient(namespace, given.map(specOf))
      const queue = new SimulatedQueue({ namespace, scriptClient, clock, runMs: 20 })
      const accepted = new Set<string>()
      const send = async (some: readonly Sent[], prefix: string) => {
        const outcomes = await queue.enqueue(some.map((one, index) => ({ id: `${prefix}${index}`, call: callOf(one) })))
        for (const [index, outcome] of outcomes.entries()) if (outcome !== 'reject') accepted.add(`calls/${prefix}${index}`)
        return outcomes
      }
      await send(calls, 'c')
      const waiting = [...accepted]
      for (const which of cancels) {
        const id = waiting[which % Math.max(1, waiting.length)]
        if (id !== undefined && (await queue.cancel(id))) accepted.delete(id)
      }
      // What was cancelled has gone back: as much as that is let in again, and no more.
      await send(calls, 'd')
      await queue.runFor(20_000, 20)
      expect(queue.notStarted).toEqual([])
      expect(queue.starts.map(({ id }) => id).sort()).toEqual([...accepted].sort())
      for (const [n, rule] of given.entries()) {
        if (rule.strategy === 'queue') continue
        for (const value of new Set(calls.map((one) => one[rule.scope]))) {
          const sentOf = (id: string) => calls[Number(id.slice('calls/c'.length))] as Sent
          const started = [...accepted].map(sentOf).filter((one) => one[rule.scope] === value)
          expect(
            started.reduce((sum, one) => sum + costOf(rule, one), 0),
            `r${n}`,
          ).toBeLessThanOrEqual(mostOf(rule))
        }
      }
      const all = calls.map((one, index) => requestOf(scriptClient, `p${index}`, callOf(one)))
      for (const { usage } of await scriptClient.peek(all)) for (const { claimed, rule } of usage) expect(claimed, rule).toBe(0)
    }),
    { numRuns: runs(30) },
  )
})

test('a call that was let in and finds no free worker counts at a budget until it starts, and gives back what it had claimed when it has no job', async () => {
  const namespace = newNamespace()
  const budget: LimitSpec = { requests: 2, per: 'day', algorithm: 'fixed_window' }
  const { scriptClient, clock } = givenScriptClient(namespace, [{ name: 'budget', scope: 'agent', strategy: 'hard', limits: [budget] }])
  const request = (id: string) => requestOf(scriptClient, id, { agent: 'a' })
  const enqueue = async (id: string) => (await decideBy(scriptClient, 'enqueue', [request(id)]))[0]?.outcome
  const seen = (id: string, state: 'queued' | 'missing') => {
    return scriptClient.reconcilePasses([{ request: { ...request(id), held: request(id).meters.flatMap(({ keys }) => keys) }, seen: state }])
  }
  expect([await enqueue('c0'), await enqueue('c1'), await enqueue('c2')]).toEqual(['run', 'run', 'reject'])
  clock.advance(60_000)
  expect(await seen('c0', 'queued')).toEqual(['unclaimed'])
  expect(await enqueue('c2')).toBe('reject')
  expect(await seen('c0', 'queued')).toEqual(['kept'])
  expect(await seen('c1', 'missing')).toEqual(['dropped'])
  expect([await enqueue('c3'), await enqueue('c4')]).toEqual(['run', 'reject'])
  expect((await decideBy(scriptClient, 'start', [request('c0'), request('c3')])).map(({ outcome }) => outcome)).toEqual(['run', 'run'])
  expect((await scriptClient.peek([request('p')]))[0]?.usage[0]).toMatchObject({ used: 2, claimed: 0 })
})
