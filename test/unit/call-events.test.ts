import { expect, test } from 'vitest'
import type { CallEvent } from '../../src/history/answers.js'
import { readEvents, readLimitsAtStart, writeEvent, writeLimits } from '../../src/history/event.js'
import type { Usage } from '../../src/model/decision.js'

const usage = (rule: string, limit: string, scopeValue: string, used: number): Usage => ({
  rule,
  limit,
  scopeValue,
  unit: 'requests',
  amount: 10,
  windowMs: 1000,
  capacity: 10,
  used,
  claimed: 1,
  remaining: 1,
  resetMs: 5,
})

test('limits at a start are read as they were written, of calls under the same and under other rules', () => {
  const calls = [
    [usage('user', 'requests/minute', 'u"1', 0.5), usage('user', 'requests/day', 'u"1', 2), usage('org', 'requests/day', 'ü', 1)],
    [usage('user', 'requests/minute', 'u2', 7), usage('user', 'requests/day', 'u2', 2), usage('org', 'requests/day', 'u2', 1)],
    [usage('org', 'requests/day', '7', 1)],
    [],
  ]
  for (const limits of calls) {
    const kept = limits.map(({ rule, limit, scopeValue, unit, capacity, used, claimed }) => ({ rule, limit, scopeValue, unit, capacity, used, claimed }))
    expect(readLimitsAtStart(writeLimits(limits))).toEqual(kept)
  }
})

test('limits at a start are read as the version before wrote them, and nothing is read from what another program wrote', () => {
  const before = '[["user","requests/minute","u1","requests",10,3,0]]'
  expect(readLimitsAtStart(before)).toEqual([{ rule: 'user', limit: 'requests/minute', scopeValue: 'u1', unit: 'requests', capacity: 10, used: 3, claimed: 0 }])
  for (const text of [null, '', '{', 'null', '[null]', '[[],[]]', '7']) expect(readLimitsAtStart(text)).toEqual([])
})

test('events are one line of JSON each, the start of a call, too', () => {
  const all: CallEvent[] = [
    { atMs: 17, what: 'started', attempt: 2 },
    { atMs: 18, what: 'settled', cost: { tokens: 900, usd: 0.25 } },
  ]
  expect(readEvents(`0\n${all.map(writeEvent).join('')}`).events).toEqual(all)
})
