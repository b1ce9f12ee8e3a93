import { Redis } from 'ioredis'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { Recorder } from '../../src/history/recorder.js'
import { redisClock } from '../../src/model/time.js'
import { CallNotes } from '../../src/queue/call-notes.js'
import { requestOfJob } from '../../src/queue/stored-call.js'
import { newNamespace } from '../support/namespace.js'
import { realScriptClient } from '../support/script-client.js'

/** Whose answer to one command comes later than that to the commands before it. */
class SlowRedis extends Redis {
  override async hlen(key: string): Promise<number> {
    await new Promise((resolve) => setTimeout(resolve, 20))
    return super.hlen(key)
  }
}

test('notes that Redis refuses fail their flush, and nothing else: a refusal without a handler would end the process', async () => {
  const namespace = newNamespace()
  const redis = new SlowRedis(namespace.url, { maxRetriesPerRequest: null })
  const unhandled: unknown[] = []
  const note = (error: unknown) => void unhandled.push(error)
  process.on('unhandledRejection', note)
  onTestFinished(() => {
    process.off('unhandledRejection', note)
    redis.disconnect()
  })
  const { keys } = namespace
  const series = { add: async () => {} }
  const recorder = new Recorder({ series: series as never, log: pino({ level: 'silent' }), nowMs: () => Date.now(), away: () => false })
  const notes = new CallNotes({ redis, keys, clock: redisClock, recorder })
  const job = { id: 'a', name: 'llm', data: { agent: 'llm' }, queueName: 'calls', timestamp: Date.now(), attemptsMade: 3, opts: {}, stalledCounter: 0 }
  const request = await requestOfJob(realScriptClient(namespace, []), job as never, '', undefined)
  // No hash: what the script writes is refused.
  await namespace.redis.set(keys.job('calls/a'), 'no job', 'PX', 60_000)
  notes.ended(job as never, request, 'failed')
  await expect(notes.flush()).rejects.toThrow('WRONGTYPE')
  // Many jobs are sent in many turns: the first may be refused before the last is sent.
  notes.woken(['calls/a', ...Array.from({ length: 3999 }, (_, n) => `calls/b${n}`)])
  await expect(notes.flush()).rejects.toThrow('WRONGTYPE')
  await new Promise(setImmediate)
  expect(unhandled).toEqual([])
})
