import { expect, test } from 'vitest'
import type { HealthFacts } from '../../src/health/facts.js'
import { judge } from '../../src/health/judge.js'
import type { LineSeen } from '../../src/history/seen.js'

const NOW_MS = 1_800_000_000_000

/** A line of calls that a blocked agent keeps waiting. */
const LINE: LineSeen = {
  rule: '~block',
  scopeValue: 'openai||',
  limit: 'retry-after',
  depth: 15,
  oldestMs: 2000,
  sinceMs: NOW_MS - 2000,
  who: [{ org: 'acme', calls: 15 }],
  kind: 'upstream',
  waitsFor: 'UPSTREAM',
  head: 'c1',
  queue: 'calls',
  agent: 'openai',
  etaMs: 1000,
  binds: null,
}

function factsWith(line: Partial<LineSeen>, more: Partial<HealthFacts> = {}): HealthFacts {
  const lines = [{ ...LINE, ...line }]
  return {
    nowMs: NOW_MS,
    seen: { atMs: NOW_MS - 500, waiting: 15, lineCount: 1, lines, limits: {} },
    dispatched: true,
    workers: [{ id: 'w', queue: 'calls', untilMs: NOW_MS + 2000, forgottenMs: NOW_MS + 60_000, places: 10, running: 1, perSecond: 1 }],
    queues: [{ name: 'calls', waiting: 0, active: 1, paused: false, oldestMs: null }],
    lineCount: 1,
    callsInLines: 15,
    arrivingPerSecond: 1,
    startingPerSecond: 1,
    lastStartMs: NOW_MS - 500,
    hadCalls: true,
    troubled: [],
    refusedBudgets: [],
    severalOrgs: false,
    specs: [],
    ...more,
  }
}

const reasonOf = (line: Partial<LineSeen>, more?: Partial<HealthFacts>) => judge(factsWith(line, more)).reason

test('an agent that refused for a moment is no cause, also while its probe is under way and the end of the block is not known', () => {
  expect(reasonOf({})).toBe('FLOWING')
  expect(reasonOf({ etaMs: null, sinceMs: NOW_MS - 6000 })).toBe('FLOWING')
})

test('a line that stood for long before its first call met the block says nothing of how long the agent refuses', () => {
  const own = { rule: 'user', scopeValue: 'acme|u1', sinceMs: NOW_MS - 20_000, limitSinceMs: NOW_MS - 2000, etaMs: null }
  expect(reasonOf(own)).toBe('FLOWING')
  expect(judge(factsWith({ ...own, limitSinceMs: NOW_MS - 12_000 }))).toMatchObject({ reason: 'UPSTREAM', sinceMs: NOW_MS - 12_000 })
})

test('a scope value that is no text of a URL is named as it stands', () => {
  const specs = [{ name: 'orgs', scope: 'org' as const, limits: [{ requests: 1, per: 'second' }] }]
  const line = { rule: 'orgs', scopeValue: '%E0%A4%A', kind: 'rule' as const, waitsFor: 'RATE' as const, limit: 'requests/second' }
  expect(judge(factsWith(line, { specs })).sentence).toBe('%E0%A4%A waits at its own limit; others flow.')
})

test('an agent that is blocked for long is named at once, and one that goes on refusing after some seconds', () => {
  expect(reasonOf({ etaMs: 60_000 })).toBe('UPSTREAM')
  expect(reasonOf({ sinceMs: NOW_MS - 5000 })).toBe('UPSTREAM')
  expect(reasonOf({ sinceMs: NOW_MS - 10_000, etaMs: null })).toBe('UPSTREAM')
})

test('the line of an agent that recovers is a cause as that of any limit that all share: where it stands and its first call waits', () => {
  const recovering = { limit: 'account/requests/second', etaMs: 40, sinceMs: NOW_MS - 20_000 }
  expect(reasonOf(recovering)).toBe('FLOWING')
  const waits = judge(factsWith({ ...recovering, oldestMs: 3000 }))
  expect(waits).toMatchObject({ reason: 'UPSTREAM', state: 'slowed', sentence: 'Agent openai recovers from refusals; its limits are cut.' })
  expect(waits.sentence.split(' ').length).toBeLessThanOrEqual(12)
})
