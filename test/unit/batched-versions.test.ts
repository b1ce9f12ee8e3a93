import { readFileSync } from 'node:fs'
import type { RedisQueueBackend } from 'bullmq'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { expect, inject, onTestFinished, test } from 'vitest'
import { BATCHED_BULLMQ_VERSIONS, batchedBackend } from '../../src/queue/batched-backend.js'

const OPTIONS = { name: 'w', lockDuration: 30_000 }

test('the installed BullMQ is one of those that jobs are completed in batches on', () => {
  const lock = JSON.parse(readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8')) as { packages: Record<string, { version: string }> }
  expect(BATCHED_BULLMQ_VERSIONS).toContain(lock.packages['node_modules/bullmq']?.version)
})

/** The backends that two workers get, and what is logged. */
async function backends(options: object, versionOf?: (backend: RedisQueueBackend) => string) {
  const redis = new Redis(inject('redisUrl'), { maxRetriesPerRequest: null })
  await redis.ping()
  const lines: string[] = []
  const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) })
  const factory = batchedBackend(redis, log, { ...OPTIONS, ...options }, versionOf)
  const made = [1, 2].map(() => factory('q', { connection: redis }))
  onTestFinished(async () => {
    for (const backend of made) await backend.close()
    redis.disconnect()
  })
  return { inBatches: made.map((backend) => Object.hasOwn(backend, 'moveToCompleted')), lines }
}

test('on a known version jobs are completed in batches', async () => {
  expect(await backends({})).toEqual({ inBatches: [true, true], lines: [] })
})

test('on another version they are completed by BullMQ, which is logged once', async () => {
  const { inBatches, lines } = await backends({}, () => '6.99.0')
  expect(inBatches).toEqual([false, false])
  expect(lines).toEqual([expect.stringContaining('6.99.0')])
})

test.each([{ limiter: { max: 1, duration: 1000 } }, { metrics: { maxDataPoints: 10 } }])('and for a worker with %o', async (options) => {
  expect(await backends(options)).toEqual({ inBatches: [false, false], lines: [] })
})
