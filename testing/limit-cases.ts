import assert from 'node:assert/strict'
import type { AdmissionRequest } from '../src/admission/request.js'
import type { AlgorithmRef } from '../src/limits/algorithms.js'
import type { LimitSpec } from '../src/limits/limit.js'
import { Account, assertAlike, assertClose, type Case } from './account.js'

/** How an algorithm treats 10 tokens per 10 s. */
interface Kind {
  readonly algorithm: AlgorithmRef
  /** How many calls of one token pass at once. */
  readonly atOnce: number
  /** The wait of the next one. */
  readonly nextMs: number
}

const KINDS: readonly Kind[] = [
  { algorithm: 'token_bucket', atOnce: 10, nextMs: 1000 },
  { algorithm: 'leaky_bucket', atOnce: 1, nextMs: 1000 },
  { algorithm: 'fixed_window', atOnce: 10, nextMs: 10_000 },
  // A thirty-second of the window longer: until the whole cell of the charge has left the window.
  { algorithm: 'sliding_window', atOnce: 10, nextMs: 10_312.5 },
  { algorithm: 'sliding_log', atOnce: 10, nextMs: 10_000 },
  { algorithm: 'custom:session', atOnce: 10, nextMs: 10_000 },
]

function casesOf({ algorithm, atOnce, nextMs }: Kind): Case[] {
  const of = (tokens: number): LimitSpec => ({ name: 'limit', tokens, per: '10s', algorithm })
  const limit = of(10)
  const one = { tokens: 1 }
  const named = (name: string, check: Case['check']): Case => ({ name: `${algorithm}: ${name}`, check })
  const full = async (account: Account) => {
    for (let call = 0; call < atOnce; call++) await account.passes(one)
  }
  return [
    named('admits up to the limit, and gives the exact time at which the next call passes', async (subject) => {
      const account = new Account(subject, [limit])
      await full(account)
      assertClose(await account.used(), atOnce, 'used')
      const refusal = await account.refused(one)
      assert.deepEqual(refusal.binding, { kind: 'rule', rule: 'rule', limit: 'limit', scopeValue: 'o', unit: 'tokens' })
      await account.passesAfter(one, nextMs)
    }),
    named('gives the exact time at which a call of a larger cost passes, after charges at several times', async (subject) => {
      const account = new Account(subject, [limit])
      for (const tokens of [2.5, 4, 3]) {
        await account.passes({ tokens })
        subject.clock.advance(algorithm === 'leaky_bucket' ? 4000 : 700)
      }
      if (algorithm === 'leaky_bucket') await account.passes({ tokens: 7 })
      await account.passesAfter({ tokens: 7 })
      await account.passesAfter({ tokens: 9.5 })
    }),
    named('a refusal and a peek change nothing', async (subject) => {
      const [account, control] = [new Account(subject, [limit]), new Account(subject, [limit], 'control')]
      for (const each of [account, control]) await full(each)
      for (const ms of [0, 300, 0.25]) {
        subject.clock.advance(ms)
        await account.refused({ tokens: 10 })
        assert.equal((await subject.store.peek(account.request({ tokens: 10 }))).outcome, 'reject')
        await account.usage()
      }
      subject.clock.advance(-200)
      await assertAlike(account, control, 'after a clock set back')
      assert.equal((await subject.store.figures()).open, 2 * atOnce)
    }),
    named('a cost above the capacity is too big, and a limit of 0 is closed', async (subject) => {
      const account = new Account(subject, [limit])
      for (const [tokens, reason] of [
        [10.01, 'too_big'],
        [1e9, 'too_big'],
      ] as const) {
        const refusal = await account.refused({ tokens })
        assert.equal(refusal.reason, reason)
        assert.equal(refusal.retryAfterMs, null)
      }
      await account.passes({ tokens: 10 })
      const closed = await new Account(subject, [of(0)], 'closed').refused(one)
      assert.equal(closed.reason, 'closed')
      assert.equal(closed.retryAfterMs, null)
    }),
    named('settling for less refunds the difference', async (subject) => {
      const [account, control] = [new Account(subject, [limit]), new Account(subject, [limit], 'control')]
      const request = await account.passes({ tokens: 8 })
      await control.passes({ tokens: 3 })
      subject.clock.advance(2000)
      assert.equal(await account.settles(request, 3), true)
      await assertAlike(account, control, 'as if the actual cost had been charged at first')
    }),
    named('settling for more charges the full cost, and debt above the limit is paid back before the next start', async (subject) => {
      const account = new Account(subject, [limit])
      const request = await account.passes({ tokens: 6 })
      assert.equal(await account.settles(request, 35), true)
      assertClose(await account.used(), 35, 'used')
      await account.passesAfter({ tokens: 10 })
    }),
    named('settling a second time changes nothing', async (subject) => {
      const account = new Account(subject, [limit])
      const request = await account.passes({ tokens: 6 })
      assert.equal(await account.settles(request, 2), true)
      assert.equal(await account.settles(request, 9), false)
      assert.equal(await account.releases(request), false)
      assertClose(await account.used(), 2, 'used')
    }),
    named('settling a part charges more at once and refunds nothing; settling the end refunds', async (subject) => {
      const account = new Account(subject, [limit])
      const request = await account.passes({ tokens: 4 })
      assert.equal(await account.settles(request, 2, 'part'), true)
      assertClose(await account.used(), 4, 'used after less')
      for (const tokens of [5, 6, 7, 7]) assert.equal(await account.settles(request, tokens, 'part'), true)
      assertClose(await account.used(), 7, 'used after more')
      assert.equal(await account.settles(request, 5), true)
      assertClose(await account.used(), 5, 'used in the end')
    }),
    named('a release refunds the charges of all parts, whenever they were made', async (subject) => {
      const account = new Account(subject, [limit])
      const request = await account.passes({ tokens: 4 })
      for (const tokens of [6, 7, 12]) {
        subject.clock.advance(700)
        assert.equal(await account.settles(request, tokens, 'part'), true)
      }
      assert.equal(await account.releases(request), true)
      assertClose(await account.used(), 0, 'used after a release')
    }),
    named('a release leaves the meter as it was before the charge', async (subject) => {
      const [account, control] = [new Account(subject, [limit]), new Account(subject, [limit], 'control')]
      for (const each of [account, control]) await each.passes(one)
      subject.clock.advance(1500)
      const request = await account.passes({ tokens: 5 })
      subject.clock.advance(250)
      assert.equal(await account.releases(request), true)
      assert.equal(await account.releases(request), false)
      await assertAlike(account, control, 'after a release')
    }),
    named('an id that is used again after its settlement is charged again', async (subject) => {
      const [account, control] = [new Account(subject, [limit]), new Account(subject, [limit], 'control')]
      for (const [time, ms] of [3500, 250].entries()) {
        assert.equal(await account.settles(await account.passes({ tokens: 3 }, 'job'), undefined), true)
        await control.passes({ tokens: 3 }, `other ${time}`)
        subject.clock.advance(ms)
      }
      for (const ms of [0, 6500, 1000, 1000]) {
        subject.clock.advance(ms)
        // Rolls the meters to the new time.
        for (const each of [account, control]) await each.admit({ tokens: 1e-6 })
        await assertAlike(account, control, 'as if they were two ids')
      }
    }),
    named('a record is charged whether there is room or not', async (subject) => {
      const account = new Account(subject, [limit])
      await account.records({ tokens: 25 })
      assertClose(await account.used(), 25, 'used')
      await account.records({ tokens: 4 }, 'job')
      await account.records({ tokens: 4 }, 'job')
      assertClose(await account.used(), 29, 'charged once under an id')
      await account.passesAfter(one)
    }),
    named('a reset clears the usage', async (subject) => {
      const account = new Account(subject, [limit])
      await account.records({ tokens: 25 })
      await subject.store.reset(account.request({}))
      assertClose(await account.used(), 0, 'used')
      await full(account)
      await account.refused(one)
    }),
    named('a limit that is lowered or raised keeps its usage', async (subject) => {
      const account = new Account(subject, [limit])
      await account.passes({ tokens: 6 })
      account.limit(of(20))
      assertClose(await account.used(), 6, 'used of a raised limit')
      account.limit(of(4))
      assertClose(await account.used(), 6, 'used of a lowered limit')
      await account.passesAfter({ tokens: 2 })
    }),
    named('usage is 0 after resetMs, and not before', async (subject) => {
      const account = new Account(subject, [limit])
      await account.records({ tokens: 17 })
      const [usage] = await account.usage()
      subject.clock.advance((usage?.resetMs ?? 0) - 1)
      assert.ok((await account.used()) > 0, 'a moment earlier')
      subject.clock.advance(1.001)
      assertClose(await account.used(), 0, 'used')
    }),
    ...(atOnce < 3 ? [] : [equalChargesCase(named, limit)]),
    ...(algorithm.endsWith('bucket') ? [givenBackCase(named, limit)] : [refundCase(named, limit)]),
    ...(algorithm === 'token_bucket' ? [stillDueCase(named, limit)] : []),
  ]
}

/** Not for leaky buckets, which admit one call at a time. */
function equalChargesCase(named: (name: string, check: Case['check']) => Case, limit: LimitSpec): Case {
  return named('charges of the same amount at the same time are refunded each for itself', async (subject) => {
    const account = new Account(subject, [limit])
    const [first, , third] = [await account.passes({ tokens: 3 }), await account.passes({ tokens: 3 }), await account.passes({ tokens: 4 })]
    await account.settles(first, 2)
    await account.releases(third)
    assertClose(await account.used(), 5, 'used')
  })
}

/** Not for buckets, which have no window. */
function refundCase(named: (name: string, check: Case['check']) => Case, limit: LimitSpec): Case {
  return named('a refund changes the window that was charged, and no other', async (subject) => {
    const account = new Account(subject, [limit])
    const [less, released] = [await account.passes({ tokens: 4 }), await account.passes({ tokens: 5 })]
    subject.clock.advance(11_000)
    await account.passes({ tokens: 8 })
    assert.equal(await account.settles(less, 1), true)
    assert.equal(await account.releases(released), true)
    assertClose(await account.used(), 8, 'used')
  })
}

/** Not for windows, which give back as long as a charge counts. */
function givenBackCase(named: (name: string, check: Case['check']) => Case, limit: LimitSpec): Case {
  return named('what the clock has given back already does not go back again, however the call ends', async (subject) => {
    const ends: ((account: Account, request: AdmissionRequest) => Promise<boolean>)[] = [
      (account, request) => account.settles(request, 0),
      (account, request) => account.releases(request),
      async (account, request) => (await account.settles(request, 5, 'part')) && account.settles(request, 1),
    ]
    for (const [n, end] of ends.entries()) {
      const account = new Account(subject, [limit], `ends ${n}`)
      const request = await account.passes({ tokens: 10 })
      subject.clock.advance(10_001)
      await account.passes({ tokens: 10 })
      assert.equal(await end(account, request), true)
      assertClose(await account.used(), 10, 'used')
      await account.refused({ tokens: 1 })
    }
  })
}

function stillDueCase(named: (name: string, check: Case['check']) => Case, limit: LimitSpec): Case {
  return named('what was used ever since the charge goes back in full, and no more than that', async (subject) => {
    const [account, control] = [new Account(subject, [limit]), new Account(subject, [limit], 'control')]
    const first = await account.passes({ tokens: 6 })
    await control.passes({ tokens: 3 })
    const others: AdmissionRequest[] = []
    for (const ms of [1000, 500]) {
      subject.clock.advance(ms)
      others.push(await account.passes({ tokens: 2 }))
      await control.passes({ tokens: 2 })
    }
    subject.clock.advance(700)
    assert.equal(await account.settles(first, 3), true)
    await assertAlike(account, control, 'as if the actual cost had been charged at first')
    subject.clock.advance(4000)
    // 0.8 are used still, of what the clock has not given back.
    for (const other of others) assert.equal(await account.releases(other), true)
    assertClose(await account.used(), 0, 'used')
    assert.equal((await account.admit({ tokens: 10 })).decision.outcome, 'run')
    await account.refused({ tokens: 1 })
  })
}

export const limitCases: readonly Case[] = KINDS.flatMap(casesOf)
