import { Redis } from 'ioredis'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { type TollgateOptions, UpstreamLimited } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

/** A client that knows its duplicates: Tollgate's and BullMQ's own connections. */
class CountedRedis extends Redis {
  readonly all: Redis[] = [this]

  override duplicate(...args: Parameters<Redis['duplicate']>): Redis {
    const one = super.duplicate(...args)
    this.all.push(one)
    return one
  }
}

/** A Tollgate whose Redis can fail over, to a server that has not got where calls wait. */
async function openForgetful(options: TollgateOptions) {
  const namespace = newNamespace()
  const client = new CountedRedis(namespace.url, { maxRetriesPerRequest: null, retryStrategy: () => 50 })
  client.on('error', () => {})
  onTestFinished(() => client.disconnect())
  const tollgate = await namespace.open({ redis: client, ...options })
  const failOver = async () => {
    for (const { stream } of client.all) stream?.destroy()
    const kept = (await namespace.allKeys()).filter((key) => /\/(c|l|passes|lines|queued|m\/~block|upstream)(\/|$)/.test(key))
    if (kept.length > 0) await namespace.redis.del(...kept)
  }
  return { namespace, tollgate, failOver }
}

test('a call whose place Redis forgot before its job was added goes to a worker as a new one', async () => {
  const { tollgate, failOver } = await openForgetful({
    rules: [
      { name: 'slots', scope: 'agent', match: { agents: ['llm'] }, limits: [{ concurrency: 1 }] },
      { name: 'own', scope: 'agent', match: { agents: ['other'] }, strategy: 'custom:forget', limits: [{ requests: 1, per: 'hour' }] },
    ],
    strategies: {
      // The first call has its place, and no job yet.
      forget: async () => {
        await failOver()
        return { outcome: 'reject' }
      },
    },
  })
  tollgate.worker(async () => 'done')
  const grants = [await tollgate.gate.admit({ agent: 'llm' }), await tollgate.gate.admit({ agent: 'other' })]
  expect(grants.map(({ allowed }) => allowed)).toEqual([true, true])
  const [waiting, refused] = await tollgate.enqueueMany([{ agent: 'llm' }, { agent: 'other' }])
  expect(waiting?.decision).toMatchObject({ outcome: 'wait', etaMaxMs: null })
  expect(refused?.error?.code).toBe('RATE_LIMIT_EXCEEDED')
  await grants[0]?.settle()
  expect(await waiting?.result()).toBe('done')
})

test('a call whose place Redis forgot before its worker delayed its job goes to a worker as a new one', async () => {
  let failOver = async () => {}
  const logger = pino({ level: 'warn' }, { write: (line) => void (/the call waits at its place/.test(line) && failOver()) })
  const opened = await openForgetful({ logger, rules: [] })
  failOver = opened.failOver
  let tries = 0
  opened.tollgate.worker(async () => {
    if (++tries === 1) throw new UpstreamLimited({ retryAfterMs: 3_600_000 })
    return 'done'
  })
  const ticket = await opened.tollgate.enqueue({ agent: 'llm' })
  expect(await ticket.result()).toBe('done')
  await until('nothing of the call is left', async () => (await opened.namespace.allKeys()).every((key) => !/\/(c|l|passes|lines)(\/|$)/.test(key)))
})
