import assert from 'node:assert/strict'
import { Account, type Case } from './account.js'

const LIMITS = [{ concurrency: 2, lease: '5s' }]

/** Slots of a concurrency. */
export const slotCases: readonly Case[] = [
  {
    name: 'concurrency: admits as many calls at once as there are slots, and refuses the next without a time',
    async check(subject) {
      const account = new Account(subject, LIMITS)
      const first = await account.passes({})
      await account.passes({})
      const refusal = await account.refused({})
      assert.equal(refusal.reason, 'limited')
      assert.equal(refusal.retryAfterMs, null)
      assert.equal(refusal.binding.unit, 'concurrency')
      assert.equal(await account.settles(first, undefined), true)
      await account.passes({})
      await account.refused({})
    },
  },
  {
    name: 'concurrency: a slot comes back when its lease ends, and not before',
    async check(subject) {
      const account = new Account(subject, LIMITS)
      for (let call = 0; call < 2; call++) await account.passes({})
      subject.clock.advance(4999)
      await account.refused({})
      subject.clock.advance(1)
      await account.passes({})
      assert.equal(await account.used(), 1)
    },
  },
  {
    name: 'concurrency: settling a part keeps the slot; settling the end and a release free it once',
    async check(subject) {
      const account = new Account(subject, LIMITS)
      const [first, second] = [await account.passes({}), await account.passes({})]
      await account.settles(first, 5, 'part')
      assert.equal(await account.used(), 2)
      assert.equal(await account.releases(first), true)
      assert.equal(await account.releases(first), false)
      assert.equal(await account.used(), 1)
      await account.settles(second, 5)
      assert.equal(await account.used(), 0)
    },
  },
  {
    name: 'concurrency: a peek, a refusal and a record take no slot, and a reset frees all',
    async check(subject) {
      const account = new Account(subject, LIMITS)
      await account.passes({})
      await subject.store.peek(account.request({}))
      await account.records({})
      assert.equal(await account.used(), 1)
      await account.passes({})
      await account.refused({})
      await subject.store.reset(account.request({}))
      assert.equal(await account.used(), 0)
    },
  },
  {
    name: 'concurrency: a limit below the number of running calls admits again once enough have ended; at 0 it is closed',
    async check(subject) {
      const account = new Account(subject, LIMITS)
      const [first, second] = [await account.passes({}), await account.passes({})]
      account.limit({ concurrency: 1, lease: '5s' })
      await account.releases(first)
      await account.refused({})
      await account.releases(second)
      await account.passes({})
      account.limit({ concurrency: 0 })
      assert.equal((await account.refused({})).reason, 'closed')
    },
  },
]
