import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { LimitSpec } from '../../src/index.js'
import { anyOwn, compileLimit } from '../../src/limits/compiled-limit.js'
import { Unchecked } from '../../src/outage/local-admission.js'
import { shareOfLimit } from '../../src/outage/outage-rule.js'
import { isOutOfMemory, isStoreError, StoreSilent } from '../../src/redis/store-error.js'

const shares = (spec: LimitSpec, of: number) => Array.from({ length: of }, (_, rank) => shareOfLimit(compileLimit(spec, anyOwn), { of, rank }))
const sum = (values: readonly number[]) => values.reduce((all, one) => all + one, 0)

test('shares come to the limit together, and never to more, however many they are', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 60 }), (limit, of) => {
      for (const algorithm of ['fixed_window', 'sliding_window', 'sliding_log'] as const) {
        const windows = shares({ requests: limit, per: 'minute', algorithm }, of)
        expect(sum(windows.map(({ capacity }) => capacity))).toBe(limit)
        expect(windows.every(({ capacity }) => Number.isInteger(capacity))).toBe(true)
      }
      expect(sum(shares({ concurrency: limit }, of).map(({ capacity }) => capacity))).toBe(limit)
      for (const unit of ['requests', 'tokens'] as const) {
        const buckets = shares({ [unit]: 600, per: 'minute', burst: limit } as LimitSpec, of)
        expect(sum(buckets.map(({ capacity }) => capacity))).toBeCloseTo(limit, 6)
        // In whole calls a share holds one at least, or nothing.
        if (unit === 'requests') expect(buckets.every(({ capacity }) => capacity === 0 || capacity >= 1)).toBe(true)
        expect(sum(buckets.filter(({ capacity }) => capacity > 0).map(({ rate }) => rate))).toBeCloseTo(600 / 60_000, 9)
      }
    }),
  )
})

test('so many are let in unchecked in any minute, and no more', () => {
  let nowMs = 0
  const unchecked = new Unchecked(10, () => nowMs)
  const starts: number[] = []
  for (; nowMs < 300_000; nowMs += 700) {
    if (!unchecked.room) continue
    unchecked.count()
    starts.push(nowMs)
  }
  expect(unchecked.total).toBe(starts.length)
  expect(starts.length).toBeGreaterThan(40)
  for (const start of starts) expect(starts.filter((one) => one >= start && one < start + 60_000).length).toBeLessThanOrEqual(10)
  expect(new Unchecked(0).room).toBe(false)
})

test.each([
  "READONLY You can't write against a read only replica.",
  "OOM command not allowed when used memory > 'maxmemory'.",
  'LOADING Redis is loading the dataset in memory',
  "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
  'NOREPLICAS Not enough good replicas to write. script: 5f, on @user_script:217.',
  'MISCONF Redis is configured to save RDB snapshots',
  'BUSY Redis is busy running a script.',
  "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
  'NOAUTH Authentication required.',
  'WRONGPASS invalid username-password pair or user is disabled.',
  'ERR Script killed by user with SCRIPT KILL. script: x',
  'Connection is closed.',
  'Command timed out',
])('a Redis that is away or refuses is known: %s', (message) => {
  expect(isStoreError(new Error(message))).toBe(true)
})

test('errors of calls, rules and scripts are none of the store', () => {
  for (const message of [
    'ERR Function not found',
    'NOSCRIPT No matching script.',
    'WRONGTYPE Operation',
    'CALL_INVALID: agent',
    'ERR user_script:3: attempt to index',
    'NOPERM',
  ])
    expect(isStoreError(new Error(message)), message).toBe(false)
  expect(isStoreError('READONLY')).toBe(false)
  expect(isStoreError(Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }))).toBe(true)
  expect(isStoreError(new StoreSilent('late'))).toBe(true)
  expect([isOutOfMemory(new Error('OOM command not allowed')), isOutOfMemory(new Error('READONLY'))]).toEqual([true, false])
})
