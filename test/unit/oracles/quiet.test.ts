import { expect, test } from 'vitest'
import { agentLimit, FactBook } from '../../support/fact-book.js'

const BUCKET = agentLimit({ kind: 'bucket', perSecond: 10, burst: 2 })

test('a ledger is gone when every run was settled, unless Redis forgot a settlement', () => {
  const left = () => new FactBook(BUCKET).done('a', 0).note({ fact: 'key left', atMs: 60_000, key: '/c/~/token.1', type: 'string', ttlMs: 1000 })
  expect(
    left()
      .reports('quiet')
      .map(({ text }) => text),
  ).toEqual(['the key /c/~/token.1 (string) is a ledger, and every run was settled'])
  expect(left().fault('failover', 30, { lostFromMs: 10 }).reports('quiet')).toEqual([])
})
