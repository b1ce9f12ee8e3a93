import { EventEmitter, getEventListeners } from 'node:events'
import type { Redis } from 'ioredis'
import { expect, test } from 'vitest'
import { StoreUnavailable } from '../../src/index.js'
import { answeredWithin, Budget, retrying, Unanswered, within } from '../../src/redis/bounded-wait.js'
import { StoreSilent } from '../../src/redis/store-error.js'

/** A connection that is ready, or not. */
function connection(status: 'ready' | 'connecting'): Redis {
  return Object.assign(new EventEmitter(), { status }) as Partial<Redis> as Redis
}

const never = new Promise<never>(() => {})

function busy(ms: number): void {
  const untilMs = performance.now() + ms
  while (performance.now() < untilMs);
}

test('within gives the result, its error, the error of a late one, or the reason of the signal', async () => {
  const { signal } = new AbortController()
  expect(await within(1000, Promise.resolve(1), { signal })).toBe(1)
  await expect(within(1000, Promise.reject(new Error('no')), { signal })).rejects.toThrow('no')
  await expect(within(1, never, { signal })).rejects.toBeInstanceOf(StoreSilent)
  await expect(within(1, never, { late: () => new Error('late') })).rejects.toThrow('late')
  const reason = new Error('enough')
  await expect(within(1000, never, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  expect(getEventListeners(signal, 'abort')).toEqual([])
  const aborting = new AbortController()
  const waiting = within(Number.POSITIVE_INFINITY, never, { signal: aborting.signal })
  aborting.abort(reason)
  await expect(waiting).rejects.toBe(reason)
  expect(getEventListeners(aborting.signal, 'abort')).toEqual([])
})

test('an answer that came while the event loop was busy is in time', async () => {
  const answer = new Promise<string>((resolve) => setTimeout(() => setImmediate(() => resolve('here')), 1))
  const wait = within(5, answer)
  busy(30)
  expect(await wait).toBe('here')
})

test('nothing is sent without a connection, and an error says whether the step was sent', async () => {
  let sends = 0
  const send = () => {
    sends++
    return never
  }
  await expect(new Budget(connection('connecting'), 5).step(send)).rejects.toMatchObject({ sent: false, message: 'Redis did not answer within 5 ms' })
  expect(sends).toBe(0)
  await expect(new Budget(connection('ready'), 5).step(send)).rejects.toMatchObject({ sent: true })
  const refusing = () => Promise.reject(new Error('READONLY You cannot write'))
  await expect(new Budget(connection('ready'), 5).step(refusing)).rejects.toMatchObject({ sent: true, message: expect.stringContaining('READONLY') })
  await expect(new Budget(connection('ready'), 5).step(() => Promise.reject(new Error('other')))).rejects.not.toBeInstanceOf(Unanswered)
  await expect(answeredWithin(connection('connecting'), 5, 'the change', send)).rejects.toThrow('Redis did not answer within 5 ms: nothing was sent')
  const sent = answeredWithin(connection('ready'), 5, 'the change', send)
  await expect(sent).rejects.toThrow('the change may have happened after all; ask again')
  await expect(sent).rejects.toBeInstanceOf(StoreUnavailable)
})

test('the steps of a budget share its time, which can be extended', async () => {
  const pass = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
  const budget = new Budget(connection('ready'), 60)
  await budget.step(() => pass(40))
  await expect(budget.step(() => pass(60))).rejects.toBeInstanceOf(Unanswered)
  budget.extend(1000)
  await budget.step(() => pass(60))
})

test('retrying repeats after errors of Redis until its hearer ends it, and not after others', async () => {
  const errors: string[] = []
  let tries = 0
  const done = retrying(
    async () => {
      if (++tries < 3) throw new StoreSilent(`try ${tries}`)
      return tries
    },
    ({ message }) => errors.push(message),
  )
  expect(await done).toBe(3)
  expect(errors).toEqual(['try 1', 'try 2'])
  await expect(
    retrying(
      () => Promise.reject(new Error('other')),
      () => {},
    ),
  ).rejects.toThrow('other')
  const ending = retrying(
    () => Promise.reject(new StoreSilent('away')),
    () => {
      throw new Error('enough')
    },
  )
  await expect(ending).rejects.toThrow('enough')
})
