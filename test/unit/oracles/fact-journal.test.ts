import { expect, test } from 'vitest'
import type { RuleSpec } from '../../../src/index.js'
import { FactJournal } from '../../support/fact-journal.js'

const RULES: RuleSpec[] = [{ name: 'account', scope: 'agent', limits: [{ requests: 1, per: 'minute', burst: 2 }, { concurrency: 3 }] }]
const RUN = { decision: { outcome: 'run' } } as Parameters<ReturnType<FactJournal['asked']>>[0][number]

/** A test in which an app asks for some calls, all of which may start. */
function journalOf(calls: number): FactJournal {
  const journal = new FactJournal(RULES)
  journal.worker('w', 10)
  const answered = journal.asked(
    Array.from({ length: calls }, () => ({ agent: 'a' })),
    (index) => `k${index}`,
  )
  answered(Array.from({ length: calls }, () => RUN))
  return journal
}

test('what a test with real processes notes is judged by the oracles', () => {
  const journal = journalOf(2)
  for (const call of ['k0', 'k1']) journal.started(call, 'w')('done', { requests: 1 })
  expect(journal.reports()).toEqual([])
})

test('a call that is lost, or runs twice, is reported, unless its worker was killed', () => {
  const lost = journalOf(2)
  lost.started('k0', 'w')('done', { requests: 1 })
  expect(lost.reports()).toEqual(['nothing lost: k1 was accepted, and has neither a result nor a run that is done'])
  const twice = journalOf(1)
  for (let run = 0; run < 2; run++) twice.started('k0', 'w')('done', { requests: 1 })
  expect(twice.reports()).toHaveLength(1)
})

test('starts above a limit are reported, to the time between charge and start', () => {
  const journal = journalOf(5)
  const ends = ['k0', 'k1', 'k2', 'k3', 'k4'].map((call) => journal.started(call, 'w', performance.timeOrigin + performance.now()))
  for (const end of ends) end('done', { requests: 1 })
  const oracles = journal.reports().map((text) => text.replace(/ \(.*/, ''))
  expect(oracles.filter((text) => text.startsWith('never over: account/requests/minute of a'))).toHaveLength(3)
  expect(oracles.filter((text) => text.startsWith('never over: account/concurrency of a has'))).toHaveLength(2)
})
