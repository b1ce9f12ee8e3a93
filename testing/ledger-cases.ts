import assert from 'node:assert/strict'
import type { LimitSpec } from '../src/limits/limit.js'
import { AS_ESTIMATED } from '../src/model/cost.js'
import { DAY, HOUR } from '../src/model/time.js'
import { Account, assertAlike, assertClose, type Case } from './account.js'

const ROOMY: LimitSpec[] = [{ tokens: 1e6, per: 'minute', algorithm: 'fixed_window' }]

const TIERS: LimitSpec[] = [
  { name: 'bucket', tokens: 100, per: '10s' },
  { name: 'window', tokens: 150, per: 'minute', algorithm: 'sliding_window' },
  { name: 'log', usd: 0.3, per: 'minute', algorithm: 'sliding_log' },
  { name: 'fixed', requests: 3, per: 'minute', algorithm: 'fixed_window' },
  { concurrency: 3 },
]

/** Several limits at once, the ledger, and states by key. */
export const ledgerCases: readonly Case[] = [
  {
    name: 'a call that one of several limits refuses is charged by none',
    async check(subject) {
      const [account, control] = [new Account(subject, TIERS), new Account(subject, TIERS, 'control')]
      for (const each of [account, control]) for (const tokens of [40, 40]) await each.passes({ tokens, usd: 0.1, requests: 1 })
      for (const [costs, limit] of [
        [{ tokens: 30, requests: 1 }, 'bucket'],
        [{ tokens: 1, usd: 0.2, requests: 1 }, 'log'],
        [{ tokens: 1, requests: 2 }, 'fixed'],
      ] as const) {
        const { reason, binding } = await account.refused(costs)
        assert.deepEqual([reason, binding.limit], ['limited', limit])
      }
      assert.equal((await account.refused({ tokens: 1, usd: 0.31 })).reason, 'too_big')
      await assertAlike(account, control, 'after refusals')
      await account.passes({ tokens: 1, usd: 0.1, requests: 1 })
    },
  },
  {
    name: 'the limit with the longest wait binds, and the call passes after that wait',
    async check(subject) {
      const account = new Account(subject, TIERS)
      await account.passes({ tokens: 100, usd: 0.2, requests: 1 })
      assert.equal((await account.refused({ tokens: 60, requests: 1 })).binding.limit, 'window')
      const request = await account.passesAfter({ tokens: 60, requests: 1 })
      assert.equal(await account.releases(request), true)
    },
  },
  {
    name: 'a call with an id is charged once until it is settled; then the id is a new call',
    async check(subject) {
      const account = new Account(subject, TIERS)
      const request = await account.passes({ tokens: 50, requests: 1 }, 'job')
      await account.passes({ tokens: 50, requests: 1 }, 'job')
      assert.equal(await account.used(), 50)
      assert.equal((await subject.store.figures()).open, 1)
      assert.equal(await account.settles(request, 50), true)
      await account.passes({ tokens: 50, requests: 1 }, 'job')
      assert.equal(await account.used(), 100)
    },
  },
  {
    name: 'a call can be settled by its id alone',
    async check(subject) {
      const account = new Account(subject, TIERS)
      await account.passes({ tokens: 50, requests: 1 }, 'job')
      assert.equal(await account.settles(account.request({}, 'job'), 10), true)
      assert.equal(await account.used(), 10)
    },
  },
  {
    name: 'an id is no key to the call of another: nothing under it is charged, given back or settled',
    async check(subject) {
      const [account, other] = [new Account(subject, TIERS), new Account(subject, TIERS, 'other')]
      const { store, clock } = subject
      const own = await account.passes({ tokens: 50, usd: 0.1, requests: 1 }, 'job')
      const foreign = other.request({ tokens: 20, usd: 0.1, requests: 1 }, 'job')
      const free = new Account(subject, TIERS, 'free')
      const actual = { ...AS_ESTIMATED, tokens: 0 }
      for (const attempt of [
        () => store.admit(foreign),
        () => store.peek(foreign),
        () => store.record(foreign),
        () => store.settle(foreign, actual, 'part'),
        () => store.settle(foreign, actual, 'end'),
        () => store.release(foreign),
      ])
        await assert.rejects(async () => attempt(), { code: 'ID_TAKEN' }, `${attempt}`)
      await assertAlike(other, free, 'of whom was refused')
      assert.equal(await account.used(), 50)
      assert.equal(await account.used(4), 1, 'its slot')
      assert.equal((await store.figures()).open, 1)
      await account.passes({ tokens: 50, usd: 0.1, requests: 1 }, 'job')
      assert.equal(await account.settles(own, 10), true)
      assert.equal(await account.used(), 10)
      // Its id is free now; and the late end of the first call does nothing to that of the other.
      const next = await other.passes({ tokens: 20, usd: 0.1, requests: 1 }, 'job')
      await assert.rejects(async () => store.release(own), { code: 'ID_TAKEN' })
      assert.equal(await other.used(), 20)
      assert.equal(await other.releases(next), true)
      clock.advance(1)
      assert.equal(await account.releases(own), false)
    },
  },
  {
    name: 'calls of one batch with one id: one is charged, and those of others are refused alone',
    async check(subject) {
      const accounts = ['a', 'b', 'c'].map((org) => new Account(subject, TIERS, org))
      const { store } = subject
      const calls = accounts.flatMap((account) => [account.request({ tokens: 10 }, 'same'), account.request({ tokens: 1 })])
      const outcomes = await Promise.all(
        calls.map(async (request) => {
          try {
            return (await store.admit(request)).decision.outcome
          } catch (error) {
            return (error as { code?: unknown }).code
          }
        }),
      )
      assert.deepEqual(outcomes, ['run', 'run', 'ID_TAKEN', 'run', 'ID_TAKEN', 'run'])
      for (const [n, account] of accounts.entries()) assert.equal(await account.used(), n === 0 ? 11 : 1)
    },
  },
  {
    name: 'a call that is charged for good leaves nothing open',
    async check(subject) {
      const account = new Account(subject, TIERS)
      const request = account.request({ tokens: 10 }, 'job', true)
      assert.equal((await subject.store.admit(request)).decision.outcome, 'run')
      assert.equal((await subject.store.figures()).open, 0)
      assert.equal(await account.settles(request, 1), false)
      assert.equal(await account.used(), 10)
    },
  },
  {
    name: 'the figures count every charge as open, settled, released or expired',
    async check(subject) {
      const account = new Account(subject, ROOMY)
      const { store, clock } = subject
      assert.deepEqual(await store.figures(), { open: 0, settled: 0, released: 0, expired: 0, overEstimatedPercent: null })
      const calls = []
      for (let call = 0; call < 5; call++) calls.push(await account.passes({ tokens: 100 }))
      const [first, second, third, fourth] = calls as [(typeof calls)[0], (typeof calls)[0], (typeof calls)[0], (typeof calls)[0]]
      await account.settles(first, 75.5)
      await account.settles(second, 50)
      await account.settles(third, undefined)
      await account.releases(fourth)
      const { overEstimatedPercent, ...counts } = await store.figures()
      assert.deepEqual(counts, { open: 1, settled: 3, released: 1, expired: 0 })
      assertClose(overEstimatedPercent, 37.25, 'over-estimate of the calls that were settled with a usage')
      clock.advance(DAY + 2 * HOUR)
      assert.deepEqual({ ...(await store.figures()), overEstimatedPercent: null }, { open: 0, settled: 3, released: 1, expired: 1, overEstimatedPercent: null })
      assert.equal(await account.settles(calls[4] as (typeof calls)[0], 1), false, 'settled a day after its charge')
    },
  },
  {
    name: 'compareAndSet writes a state only where the given one is stored, reads it, and keeps names and keys apart',
    async check({ store, clock }) {
      const read = () => store.compareAndSet('name', 'key', '', '', 0)
      assert.deepEqual(await read(), { nowMs: clock.nowMs, written: false, state: '' })
      assert.deepEqual(await store.compareAndSet('name', 'key', '', 'one', DAY), { nowMs: clock.nowMs, written: true, state: 'one' })
      assert.equal((await store.compareAndSet('name', 'key', '', 'two', DAY)).written, false)
      assert.equal((await store.compareAndSet('name', 'key', 'one', 'two', DAY)).written, true)
      assert.equal((await read()).state, 'two')
      assert.equal((await store.compareAndSet('name', 'other', '', '', 0)).state, '')
      assert.equal((await store.compareAndSet('other', 'key', '', '', 0)).state, '')
    },
  },
  {
    name: 'each scope value has its own usage',
    async check(subject) {
      const [one, other] = [new Account(subject, TIERS, 'one'), new Account(subject, TIERS, 'other')]
      await one.passes({ tokens: 100 })
      await one.refused({ tokens: 100 })
      await other.passes({ tokens: 100 })
    },
  },
]
