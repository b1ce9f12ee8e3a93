import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import type { ForeignWorker } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf } from '../support/place.js'
import { until } from '../support/until.js'

test('a plain worker on a gated queue is noticed, logged once, and said by explain; a worker of Tollgate is not', { timeout: 30_000 }, async () => {
  const namespace = newNamespace()
  const warned: string[] = []
  const logger = pino({ level: 'warn' }, { write: (line) => void warned.push(JSON.parse(line).msg) })
  const tollgate = await namespace.open({ logger, rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 100, per: 'second' }] }] })
  const found: ForeignWorker[] = []
  const off = tollgate.on('foreignWorker', (one) => found.push(one))
  const worker = tollgate.worker(async (_, { job, id }) => {
    expect(job?.id).toBe(id)
    await job?.log('taken')
    return job?.name
  })
  const tickets = await tollgate.enqueueMany(Array.from({ length: 20 }, () => ({ agent: 'a' })))
  expect(await tickets[0]?.result()).toBe('a')
  await Promise.all(tickets.map((ticket) => ticket.result()))
  // The next job, which BullMQ hands over with the end of the one before, has the mark, too.
  for (const { id } of tickets) expect(await tollgate.explain(id)).not.toHaveProperty('warning')
  await worker.close()
  const connection = new Redis(namespace.url, { maxRetriesPerRequest: null })
  const plain = new Worker('calls', async () => 'past', { connection, prefix: tollgate.prefix })
  onTestFinished(async () => {
    await plain.close()
    connection.disconnect()
  })
  const ticket = await tollgate.enqueue({ agent: 'a' })
  expect(await ticket.result()).toBe('past')
  expect((await tollgate.explain(ticket.id)).warning).toMatch(/past the gate/)
  await until('it is noticed', () => found.length > 0, 15_000)
  expect(found).toEqual([{ queue: 'calls', job: ticket.id }])
  expect(warned.filter((message) => message.includes('not of Tollgate'))).toHaveLength(1)
  off()
  expect(() => tollgate.on('other' as never, () => {})).toThrow(/event: must be foreignWorker/)
  // What was kept for the start of that call goes with the look of a dispatcher, which only a worker of Tollgate brings.
  tollgate.worker(async () => null)
  await until('its pass is gone', async () => (await namespace.redis.exists(namespace.keys.passes)) === 0, 15_000)
})

test('a prefix of the app: its own queue is gated in place, and all keys begin with it', async () => {
  const namespace = newNamespace()
  const prefix = `app:${namespace.name}`
  const connection = new Redis(namespace.url, { maxRetriesPerRequest: null })
  const queue = new Queue('mails', { connection, prefix })
  onTestFinished(async () => {
    await queue.obliterate({ force: true })
    await queue.close()
    const keys = await connection.keys(`${prefix}*`)
    if (keys.length > 0) await connection.del(...keys)
    connection.disconnect()
  })
  const tollgate = await namespace.open({ prefix, queue: 'mails', rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 1, per: 'hour' }] }] })
  expect(tollgate.prefix).toBe(prefix)
  tollgate.worker(async (call) => call.payload)
  await queue.add('send', { to: 'a' }, { jobId: 'first' })
  expect(await tollgate.result('first')).toEqual({ to: 'a' })
  await queue.add('send', { to: 'b' }, { jobId: 'second' })
  await until('the second waits', async () => (await tollgate.calls()).calls[0]?.waitsFor === 'RATE')
  expect((await tollgate.lines()).lines).toMatchObject([{ line: 'r/send', depth: 1 }])
  expect(await namespace.allKeys()).toEqual([])
  expect(await connection.exists(`${prefix}/${namespace.name}/rules`)).toBe(1)
  await tollgate.cancel('second')
  expect(await codeOf(namespace.open({ prefix: 'a/b' }))).toBe('CONFIG_INVALID')
})
