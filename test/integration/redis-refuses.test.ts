import { inspect } from 'node:util'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { TollgateError } from '../../src/index.js'
import { Queues } from '../../src/queue/queues.js'
import { newNamespace } from '../support/namespace.js'
import { type RedisServer, startRedis } from '../support/redis-server.js'
import { Script } from '../support/script.js'

let server: RedisServer
const RULES = [{ name: 'one', scope: 'agent', limits: [{ concurrency: 1 }] }]

beforeAll(async () => {
  server = await startRedis()
  const admin = new Redis(server.url)
  await admin.call('ACL', 'SETUSER', 'u', 'on', '>right', '~*', '&*', '+@all')
  await admin.call('ACL', 'SETUSER', 'weak', 'on', '>right', '~*', '&*', '+@all', '-fcall', '-function', '-eval', '-evalsha', '-script')
  admin.disconnect()
})
afterAll(() => server.stop())

/** The URL of the server for a user. */
function urlOf(user: string, password: string): string {
  return server.url.replace('redis://', `redis://${user}:${password}@`)
}

async function failureOf(opening: Promise<unknown>): Promise<TollgateError> {
  const error = await opening.then(
    () => undefined,
    (failure: unknown) => failure,
  )
  expect(error).toBeInstanceOf(TollgateError)
  return error as TollgateError
}

test('a wrong password is in no error of open, nor in what a given logger writes', async () => {
  const lines: string[] = []
  const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
  const error = await failureOf(newNamespace(server.url).open({ redis: urlOf('u', 'secretpw'), connectTimeoutMs: 400, logger }))
  expect(error).toMatchObject({ code: 'REDIS_UNAVAILABLE', message: expect.stringContaining('WRONGPASS'), cause: expect.any(Error) })
  expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('secretpw')
  expect(lines.join('')).toContain('WRONGPASS')
  expect(lines.join('')).not.toContain('secretpw')
})

test('the default logger writes no password, and the process ends', async () => {
  const script = new Script(`import { inspect } from 'node:util'
const error = await Tollgate.open({ redis: '${urlOf('u', 'secretpw')}', connectTimeoutMs: 400 }).catch((failure) => failure)
console.log(JSON.stringify(inspect(error, { depth: 9 })))`)
  const shown = await script.result()
  expect(shown).toContain('REDIS_UNAVAILABLE')
  expect(script.errors).toContain('WRONGPASS')
  expect(`${shown}${script.errors}`).not.toContain('secretpw')
})

test('a password that is changed while Tollgate is open is in no error of a call', async () => {
  const admin = new Redis(server.url)
  onTestFinished(() => admin.disconnect())
  await admin.call('ACL', 'SETUSER', 'moved', 'on', '>secretpw', '~*', '&*', '+@all')
  const lines: string[] = []
  const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
  const tollgate = await newNamespace(server.url).open({ redis: urlOf('moved', 'secretpw'), rules: RULES, logger, enqueueTimeoutMs: 300 })
  await admin.call('ACL', 'SETUSER', 'moved', 'resetpass', '>other')
  await admin.call('CLIENT', 'KILL', 'USER', 'moved')
  const error = await failureOf(tollgate.enqueue({ agent: 'a', payload: 'secret payload' }))
  expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('secret')
  await vi.waitFor(() => expect(lines.join('')).toContain('WRONGPASS'))
  expect(lines.join('')).not.toContain('secret')
})

test('an error of Redis that leaves Tollgate has no arguments', async () => {
  const namespace = newNamespace(server.url)
  const tollgate = await namespace.open({ rules: RULES })
  await namespace.redis.set(namespace.keys.figures, 'not a hash', 'PX', 60_000)
  for (const ask of [() => tollgate.gate.admit({ agent: 'a', user: 'secret' }), () => tollgate.stats.ledger()]) {
    const error = await ask().catch((failure: unknown) => failure)
    expect(error).toMatchObject({ name: 'ReplyError', message: expect.stringContaining('WRONGTYPE') })
    expect(error).not.toHaveProperty('command')
  }
})

test('a user who may not run scripts makes open fail with a code, and no arguments', async () => {
  const error = await failureOf(newNamespace(server.url).open({ redis: urlOf('weak', 'right'), rules: RULES }))
  expect(error).toMatchObject({ code: 'REDIS_UNAVAILABLE', message: expect.stringMatching(/^Redis refuses \(NOPERM /) })
  expect(error.cause).toMatchObject({ name: 'ReplyError' })
  expect(error.cause).not.toHaveProperty('command')
})

test.each(['a URL', 'a client', 'a client that is ready'])(
  'a database that does not exist makes open fail by %s, and nothing is written to another',
  async (by) => {
    const namespace = newNamespace(server.url)
    const url = `${server.url}/99`
    const client = new Redis(url, { maxRetriesPerRequest: null, lazyConnect: true })
    client.on('error', () => {})
    onTestFinished(() => client.disconnect())
    if (by === 'a client that is ready') await client.connect()
    const error = await failureOf(namespace.open({ redis: by === 'a URL' ? url : client, rules: RULES }))
    expect(error).toMatchObject({ code: 'REDIS_UNAVAILABLE', message: 'Redis refuses (ERR DB index is out of range)' })
    expect(await namespace.redis.keys(`*${namespace.name}*`)).toEqual([])
  },
)

test('where the queue cannot be made, open closes what it has opened', async () => {
  const namespace = newNamespace(server.url)
  const connections = async () => ((await namespace.redis.call('CLIENT', 'LIST')) as string).trim().split('\n').length
  const before = await connections()
  const spy = vi.spyOn(Queues.prototype, 'get').mockImplementation(() => {
    throw new Error('no queue')
  })
  onTestFinished(() => spy.mockRestore())
  await expect(namespace.open({ rules: RULES })).rejects.toThrow('no queue')
  await vi.waitFor(async () => expect(await connections()).toBe(before))
})
