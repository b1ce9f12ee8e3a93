import { expect, test } from 'vitest'
import { newNamespace } from '../support/namespace.js'

test('peek answers what admit would: room behind a line that has not moved yet is no room', async () => {
  const tollgate = await newNamespace().open({ rules: [{ name: 'one', scope: 'agent', limits: [{ concurrency: 1 }] }] })
  const call = { agent: 'llm' }
  const first = await tollgate.enqueue(call)
  const second = await tollgate.enqueue(call)
  expect([first.decision?.outcome, second.decision?.outcome]).toEqual(['run', 'wait'])
  // Without a worker there is no dispatcher: the slot comes back, and the line stays as it is.
  await tollgate.cancel(first.id)
  const [peeked, admitted] = [await tollgate.gate.peek(call), await tollgate.gate.admit(call)]
  expect([peeked.allowed, admitted.allowed]).toEqual([false, false])
  expect(peeked.limitExceeded).toBe(admitted.limitExceeded)
  expect(await tollgate.explain(second.id)).toMatchObject({ state: 'waiting', position: 0, etaMs: 0 })
  await tollgate.cancel(second.id)
  expect((await tollgate.gate.peek(call)).allowed).toBe(true)
})
