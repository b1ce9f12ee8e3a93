import assert from 'node:assert/strict'
import type { AdmissionRequest } from '../src/admission/request.js'
import type { UpstreamReport } from '../src/model/upstream.js'
import { Account, type Case, type Subject } from './account.js'

const LIMITS = [{ requests: 10, per: 'second' }]

function refusal(retryAfterMs: number): UpstreamReport {
  return { kind: 'refused', retryAfterMs, reduceFactor: 0.5, name: { agent: 'agent' }, observed: null }
}

/** A request for nothing but the block of the account's agent. */
function blockOf(account: Account): AdmissionRequest {
  const request = account.request({}, undefined, true)
  return { ...request, meters: request.meters.slice(-1) }
}

async function upstreamStatus({ store }: Subject, account: Account) {
  const [one] = await store.upstreamStatus([blockOf(account)])
  return one
}

/** Refusals and limits that agents report. */
export const upstreamCases: readonly Case[] = [
  {
    name: 'upstream: an agent without a report is open',
    async check(subject) {
      const account = new Account(subject, LIMITS)
      const { nowMs } = subject.clock
      assert.deepEqual(await upstreamStatus(subject, account), { atMs: nowMs, blockedUntilMs: 0, factor: 1, sinceMs: 0, cutAtMs: 0, overMs: 0, canary: false })
      assert.deepEqual(await subject.store.observed(), [])
    },
  },
  {
    name: 'upstream: a call that its agent refused is released, and the agent is blocked until the latest time',
    async check(subject) {
      const account = new Account(subject, LIMITS)
      const [first, second] = [await account.passes({ requests: 1 }), await account.passes({ requests: 1 })]
      const outcome = await subject.store.reportUpstream(first, refusal(2000))
      assert.equal(outcome.blockedUntilMs, subject.clock.nowMs + 2000)
      assert.equal(await account.used(), 1)
      const again = await subject.store.reportUpstream(second, refusal(500))
      assert.equal(again.cut, false)
      assert.equal(again.blockedUntilMs, outcome.blockedUntilMs)
      assert.equal(await account.used(), 0)
      assert.equal((await account.refused({ requests: 1 })).binding.rule, '~block')
    },
  },
  {
    name: 'upstream: after a block a first call passes, and others once that is settled',
    async check(subject) {
      const account = new Account(subject, LIMITS)
      await subject.store.reportUpstream(blockOf(account), refusal(1000))
      const probe = await account.passesAfter({ requests: 1 }, 1000)
      await account.settles(probe, undefined)
      await account.passes({ requests: 1 })
    },
  },
  {
    name: 'upstream: the limits observed last are kept, also by a refusal',
    async check(subject) {
      const account = new Account(subject, LIMITS)
      const limits = { requests: { limit: 60, remaining: 5, resetMs: 1000, windowMs: 60_000 } }
      await subject.store.reportUpstream(blockOf(account), { ...refusal(0), kind: 'observed', observed: limits })
      await subject.store.reportUpstream(blockOf(account), refusal(100))
      const [one, ...more] = await subject.store.observed()
      assert.deepEqual(one?.limits, limits)
      assert.deepEqual(one?.name, { agent: 'agent' })
      assert.deepEqual(more, [])
    },
  },
]
