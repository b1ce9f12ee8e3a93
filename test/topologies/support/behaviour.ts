import { expect, test } from 'vitest'
import { RateLimitExceeded, type RuleSpec, type Tollgate, type TollgateOptions, UpstreamLimited } from '../../../src/index.js'
import { type Namespace, newNamespace } from '../../support/namespace.js'
import { untilAway, untilBack } from '../../support/outage.js'
import { until } from '../../support/until.js'

/** A Redis in some form, as the tests of behaviour see it. */
export interface Topology {
  /** For the tests' own connection, and for the Tollgates where `redis` says no other. */
  readonly url: string
  readonly redis?: () => TollgateOptions['redis']
  /** Lets the server that has the keys of a namespace fall silent, and answer again. */
  readonly silence?: (namespace: Namespace) => Promise<() => Promise<void> | void>
  stop(): Promise<void>
}

const RULES: RuleSpec[] = [
  {
    name: 'account',
    scope: 'agent',
    match: { agents: ['llm'] },
    strategy: 'queue',
    limits: [{ concurrency: 2 }, { tokens: 1_000_000, per: 'hour', algorithm: 'fixed_window' }],
  },
  { name: 'per-user', scope: 'user', match: { agents: ['tool'] }, strategy: 'hard', limits: [{ requests: 2, per: 'hour', algorithm: 'fixed_window' }] },
]

/** The same behaviour on every topology: front door, lines, worker, overrides, live rules, limiter by key, lists, outage. */
export function behaves(topology: () => Topology): void {
  const open = async (options: TollgateOptions = {}): Promise<{ namespace: Namespace; tollgate: Tollgate; another: () => Promise<Tollgate> }> => {
    const { url, redis } = topology()
    const namespace = newNamespace(url)
    const another = () => namespace.open({ ...(redis === undefined ? {} : { redis: redis() }), connectTimeoutMs: 5000, requireRedis: true, ...options })
    return { namespace, tollgate: await another(), another }
  }

  test('calls pass the front door, wait in line, are run and settled', async () => {
    const { tollgate } = await open({ rules: RULES })
    let running = 0
    let most = 0
    tollgate.worker(async (call) => {
      most = Math.max(most, ++running)
      await new Promise((resolve) => setTimeout(resolve, 5))
      running--
      return { echoed: call.payload, usage: { inputTokens: 3, outputTokens: 4 } }
    })
    const tickets = await tollgate.enqueueMany(Array.from({ length: 60 }, (_, payload) => ({ agent: 'llm', cost: { tokens: 100 }, payload })))
    const answers = await Promise.all(tickets.map((ticket) => ticket.result()))
    expect(answers).toEqual(tickets.map((_, echoed) => expect.objectContaining({ echoed })))
    expect(tickets.some(({ decision }) => decision?.outcome === 'wait')).toBe(true)
    expect(most).toBe(2)
    const [, tokens] = (await tollgate.gate.peek({ agent: 'llm', cost: { tokens: 1 } })).usage
    expect(tokens?.used).toBe(60 * 7)
    await until('every entry of the ledger is closed', async () => (await tollgate.stats.ledger()).open === 0)
  })

  test('a hard rule refuses, an override lets in, and another process hears of both at once', async () => {
    const { tollgate, another } = await open({ rules: RULES })
    const other = await another()
    const call = { agent: 'tool', user: 'u' }
    for (const one of [tollgate, other]) expect((await one.gate.admit(call)).allowed).toBe(true)
    await expect(other.enqueue(call)).rejects.toBeInstanceOf(RateLimitExceeded)
    await tollgate.overrides.grant({ for: { user: 'u' }, allow: { limits: [{ requests: 5, per: 'hour' }] }, forMs: 60_000, by: 'test', reason: 'testing' })
    await until('the other process knows the override', async () => (await other.gate.peek(call)).allowed)
    await tollgate.rules.update('per-user', { enabled: false }, { by: 'test' })
    await until('the other process knows the rule', () => other.rules.get('per-user')?.enabled === false)
  })

  test('a call that its agent refuses comes back and is run again', async () => {
    const { tollgate } = await open({ rules: RULES })
    let tries = 0
    tollgate.worker(async () => {
      if (++tries === 1) throw new UpstreamLimited({ retryAfterMs: 50 })
      return { tries }
    })
    const ticket = await tollgate.enqueue({ agent: 'llm', cost: { tokens: 1 } })
    expect(await ticket.result()).toEqual({ tries: 2 })
  })

  test('a limiter by key, held calls, and the lists of what waits', async () => {
    const { tollgate } = await open({ rules: RULES })
    const limiter = tollgate.limiter({ requests: 3, per: 'hour', algorithm: 'fixed_window' })
    const allowed = await Promise.all(Array.from({ length: 5 }, () => limiter.check('k')))
    expect(allowed.filter((one) => one.allowed).length).toBe(3)
    const grants = await Promise.all([1, 2].map(() => tollgate.gate.acquire({ agent: 'llm', cost: { tokens: 5 } })))
    const tickets = await tollgate.enqueueMany([1, 2, 3].map((n) => ({ id: `w${n}`, agent: 'llm', cost: { tokens: 5 } })))
    expect((await tollgate.calls({})).calls.map(({ id }) => id).sort()).toEqual(['w1', 'w2', 'w3'])
    expect((await tollgate.lines({})).lines.map(({ depth }) => depth)).toEqual([3])
    expect(await tollgate.explain('w2')).toMatchObject({ id: 'w2' })
    for (const { id } of tickets) expect(await tollgate.cancel(id)).toBe(true)
    for (const grant of grants) await grant.release()
    expect(await tollgate.stats.ledger()).toMatchObject({ open: 0 })
  })

  test('while Redis is silent calls are decided on shares, and charged afterwards', async ({ skip }) => {
    const { silence } = topology()
    if (silence === undefined) skip('this server is shared with other tests')
    const { tollgate, namespace } = await open({
      rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 1000, per: 'hour', algorithm: 'fixed_window' }] }],
      storeTimeoutMs: 300,
    })
    expect((await tollgate.gate.admit({ agent: 'llm' })).allowed).toBe(true)
    const end = await silence?.(namespace)
    const away = tollgate.gate.admit({ agent: 'llm' })
    await untilAway(tollgate)
    expect((await away).allowed).toBe(true)
    await end?.()
    await untilBack(tollgate)
    const [requests] = (await tollgate.gate.peek({ agent: 'llm' })).usage
    expect(requests?.used).toBeGreaterThan(1)
  })
}
