import { getEventListeners } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { newNamespace } from '../support/namespace.js'

/** Rejections without a handler, which end a Node process. */
function unhandledRejections(): unknown[] {
  const reasons: unknown[] = []
  const listener = (reason: unknown) => void reasons.push(reason)
  process.on('unhandledRejection', listener)
  onTestFinished(() => void process.off('unhandledRejection', listener))
  return reasons
}

test('waiting for a result ends when its signal aborts, also while the waiting begins', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open()
  const ticket = await tollgate.enqueue({ agent: 'a' })
  const reason = new Error('enough')
  const atOnce = new AbortController()
  const first = ticket.result({ signal: atOnce.signal })
  atOnce.abort(reason)
  await expect(first).rejects.toBe(reason)
  await expect(ticket.result({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  expect(await tollgate.cancel(ticket.id)).toBe(true)
})

test('a call that fails while its result is looked up rejects its waiter, and leaves no rejection unhandled', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open()
  const rejections = unhandledRejections()
  const ticket = await tollgate.enqueue({ agent: 'a' })
  const listening = new AbortController()
  const before = ticket.result({ signal: listening.signal })
  const ends = Array.from({ length: 50 }, () => new AbortController())
  const waits = ends.map(({ signal }) => ticket.result({ signal }))
  const settled = Promise.allSettled([before, ...waits])
  // One abort per turn of the event loop: some come while the look-up is on its way.
  for (const end of [listening, ...ends]) {
    await new Promise((resolve) => setImmediate(resolve))
    end.abort(new Error('enough'))
  }
  expect((await settled).map(({ status }) => status)).toEqual(Array.from({ length: 51 }, () => 'rejected'))
  expect(await tollgate.cancel(ticket.id)).toBe(true)
  tollgate.worker(async () => {
    throw new Error('no')
  })
  const failing = await tollgate.enqueueMany(Array.from({ length: 50 }, () => ({ agent: 'a' })))
  const results = await Promise.allSettled(failing.map((one) => one.result()))
  expect(results.every((one) => one.status === 'rejected' && one.reason.code === 'CALL_FAILED')).toBe(true)
  await new Promise((resolve) => setImmediate(resolve))
  expect(rejections).toEqual([])
})

test('waits have one listener on the signal that they share, and leave none when they are finished', async () => {
  const tollgate = await newNamespace().open()
  const fails = new Set<string>()
  tollgate.worker(async (_call, { id }) => {
    if (fails.has(id)) throw new Error('no')
  })
  const shared = new AbortController()
  const most: number[] = []
  for (const id of ['x', 'y']) fails.add(id)
  const tickets = await tollgate.enqueueMany([{ agent: 'a' }, { agent: 'a' }, { agent: 'a', id: 'x' }, { agent: 'a', id: 'y' }])
  const results = await Promise.allSettled(
    tickets.map((ticket) => ticket.result({ signal: shared.signal }).finally(() => most.push(getEventListeners(shared.signal, 'abort').length))),
  )
  expect(Math.max(...most)).toBeLessThanOrEqual(1)
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'rejected'])
  expect(getEventListeners(shared.signal, 'abort')).toEqual([])
})
