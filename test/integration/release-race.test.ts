import { expect, test } from 'vitest'
import type { RuleSpec } from '../../src/index.js'
import { recordId, restoredRequest } from '../../src/queue/stored-call.js'
import { newNamespace } from '../support/namespace.js'
import { realScriptClient } from '../support/script-client.js'

const RULES: RuleSpec[] = [
  { name: 'account', scope: 'agent', limits: [{ requests: 1, per: 'hour' }] },
  { name: 'budget', scope: 'org', strategy: 'hard', limits: [{ usd: 10, per: 'day', algorithm: 'fixed_window' }] },
]
const CALL = { agent: 'llm', org: 'acme', cost: { usd: 1 } }

test('a call that got in line since its record was read keeps its place and its claims, until it is released by its record of now', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: RULES })
  await tollgate.enqueueMany([
    { ...CALL, id: 'first' },
    { ...CALL, id: 'waits' },
  ])
  const claimed = async () => (await tollgate.gate.peek(CALL)).usage.find(({ rule }) => rule === 'budget')?.claimed
  expect(await claimed()).toBe(2)
  const client = realScriptClient(namespace, RULES)
  const id = recordId('calls', 'waits')
  // As it was read before the call had a record.
  expect(await client.release(restoredRequest(client, id, null))).toBe('A')
  expect(await claimed()).toBe(2)
  expect((await tollgate.explain('waits')).state).toBe('waiting')
  expect(await tollgate.cancel('waits')).toBe(true)
  expect(await claimed()).toBe(1)
  expect(await tollgate.cancel('first')).toBe(true)
  expect(await claimed()).toBe(0)
})
