import { describe, expect, test } from 'vitest'
import { type RuleSpec, StoreUnavailable } from '../../src/index.js'
import { ownRedis, untilAway, untilBack, WAYS } from '../support/outage.js'

const CALL = { agent: 'llm', cost: { tokens: 100 } }
const RULES: RuleSpec[] = [
  {
    name: 'r',
    scope: 'agent',
    limits: [
      { requests: 100, per: 'hour', algorithm: 'fixed_window' },
      { requests: 50, per: 'minute', burst: 50 },
      { tokens: 100_000, per: 'hour', algorithm: 'sliding_window' },
      { concurrency: 20, lease: '10m' },
    ],
  },
]
const QUICK = { storeTimeoutMs: 200 }

/** What the limits of the rule have used, in their order. */
async function used(tollgate: { gate: { peek(call: typeof CALL): Promise<{ usage: readonly { used: number }[] }> } }): Promise<number[]> {
  return (await tollgate.gate.peek(CALL)).usage.map((one) => one.used)
}

describe.each(WAYS)('while Redis is $how', ({ begin, end }) => {
  test('a closed gate refuses at once and charges nothing; afterwards it lets in as before', async () => {
    const { server, namespace } = await ownRedis()
    const tollgate = await namespace.open({ ...QUICK, rules: RULES, onStoreError: 'closed' })
    const limiter = tollgate.limiter({ requests: 10, per: 'hour', algorithm: 'fixed_window' })
    const before = await tollgate.gate.admit(CALL)
    await limiter.check('k')
    await begin(server, namespace)
    await untilAway(tollgate)
    const refused = await tollgate.gate.admit(CALL)
    expect(refused).toMatchObject({ allowed: false, limitExceeded: null, decision: { reason: 'unavailable' } })
    expect(refused.retryAfterMs).toBeGreaterThan(0)
    expect(await tollgate.gate.tryAcquire(CALL)).toBeNull()
    await expect(limiter.checkOrThrow('k')).rejects.toBeInstanceOf(StoreUnavailable)
    expect(await before.settle({ tokens: 300 })).toBe(true)
    await end(server, namespace)
    await untilBack(tollgate)
    const [perHour, , tokens, running] = await used(tollgate)
    expect([perHour, tokens, running]).toEqual([1, 300, 0])
    expect((await limiter.peek('k')).remaining).toBe(9)
    expect((await tollgate.gate.admit(CALL)).allowed).toBe(true)
  })

  // The default.
  test('a local gate goes on within its limits, and what it used is charged once when Redis is back', async () => {
    const { server, namespace } = await ownRedis()
    const tollgate = await namespace.open({ ...QUICK, rules: RULES })
    const limiter = tollgate.limiter({ requests: 40, per: 'hour', algorithm: 'fixed_window' })
    const before = await tollgate.gate.admit(CALL)
    await begin(server, namespace)
    await untilAway(tollgate)
    await before.release()
    const ended = await tollgate.gate.admit(CALL)
    // The slot of the first came free; no other is known to be.
    const second = await tollgate.gate.admit(CALL)
    expect([ended.allowed, second.allowed]).toEqual([true, false])
    await ended.settle({ tokens: 250 })
    const open = await tollgate.gate.admit(CALL)
    expect(open.allowed).toBe(true)
    const inAll = (await Promise.all(Array.from({ length: 10 }, () => limiter.check('k')))).filter(({ allowed }) => allowed).length
    // A tenth of the window.
    expect(inAll).toBe(4)
    await end(server, namespace)
    await untilBack(tollgate)
    const [perHour, , tokens, running] = await used(tollgate)
    expect([perHour, tokens, running]).toEqual([2, 350, 1])
    expect((await limiter.peek('k')).remaining).toBe(36)
    expect(await open.settle({ tokens: 10 })).toBe(true)
    expect(await open.settle({ tokens: 10 })).toBe(false)
    const [, , settled, free] = await used(tollgate)
    expect([settled, free]).toEqual([260, 0])
    expect(await tollgate.stats.ledger()).toMatchObject({ open: 0 })
  })

  test('an open gate lets in so many and no more, and all of them are charged', async () => {
    const { server, namespace } = await ownRedis()
    const tollgate = await namespace.open({ ...QUICK, rules: RULES, onStoreError: 'open', maxUnchecked: 130 })
    await begin(server, namespace)
    await untilAway(tollgate)
    const grants = await Promise.all(Array.from({ length: 200 }, () => tollgate.gate.admit(CALL)))
    const letIn = grants.filter(({ allowed }) => allowed)
    expect(letIn).toHaveLength(130)
    expect(tollgate.stats.outage()).toMatchObject({ unchecked: 130, refused: 70, outages: 1 })
    await Promise.all(letIn.map((grant) => grant.settle()))
    await end(server, namespace)
    await untilBack(tollgate)
    const [perHour, , tokens] = await used(tollgate)
    expect([perHour, tokens]).toEqual([130, 13_000])
    expect((await tollgate.gate.admit(CALL)).allowed).toBe(false)
  })
})
