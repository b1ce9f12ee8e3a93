import { createRequire } from 'node:module'
import { Cluster, Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis5'
import { expect, inject, onTestFinished, test } from 'vitest'
import { ConfigInvalid, Tollgate, type TollgateOptions } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'

const require = createRequire(import.meta.url)

/** ioredis 6 loaded a second time, with classes of its own, as where a package manager installs two copies. */
function secondCopy(): typeof Redis {
  for (const file of Object.keys(require.cache)) if (file.includes('/node_modules/ioredis/')) delete require.cache[file]
  const { Redis: Copy } = require('ioredis') as { Redis: typeof Redis }
  expect(Copy).not.toBe(Redis)
  return Copy
}

type Client = NonNullable<Exclude<TollgateOptions['redis'], string>>

test.each<[string, (url: string) => Client]>([
  ['of ioredis 6', (url) => new Redis(url, { maxRetriesPerRequest: null })],
  ['of another copy of ioredis 6', (url) => new (secondCopy())(url, { maxRetriesPerRequest: null })],
  ['of ioredis 5', (url) => new Redis5(url, { maxRetriesPerRequest: null })],
])('a client %s carries the queue, a worker and a limiter, and stays open when the Tollgate closes', async (_, connect) => {
  const client = connect(inject('redisUrl'))
  onTestFinished(() => client.disconnect())
  const tollgate = await newNamespace().open({ redis: client, rules: [{ name: 'one', scope: 'agent', limits: [{ concurrency: 1 }] }] })
  tollgate.worker(async (call) => ({ echoed: call.payload }))
  // The second and third call wait in the line and are dispatched.
  const tickets = await tollgate.enqueueMany([1, 2, 3].map((payload) => ({ agent: 'a', payload })))
  expect(await Promise.all(tickets.map((ticket) => ticket.result()))).toEqual([1, 2, 3].map((echoed) => ({ echoed })))
  const limiter = tollgate.limiter({ requests: 1, per: 'hour', algorithm: 'fixed_window' })
  expect((await limiter.check('user')).allowed).toBe(true)
  expect((await limiter.check('user')).allowed).toBe(false)
  await tollgate.close()
  expect(client.status).toBe('ready')
})

test.each<[string, () => object, RegExp]>([
  ['a Cluster', () => new Cluster([{ host: '127.0.0.1', port: 1 }], { lazyConnect: true }), /^redis: an ioredis Cluster is not supported yet/],
  ['a client that gives up on commands', () => new Redis({ lazyConnect: true }), /^redis: a client that is given must have maxRetriesPerRequest: null/],
  [
    'a client with a prefix',
    () => new Redis({ lazyConnect: true, maxRetriesPerRequest: null, keyPrefix: 'x:' }),
    /^redis: a client that is given must have no keyPrefix/,
  ],
  [
    'a client that reads numbers as text',
    () => new Redis({ lazyConnect: true, maxRetriesPerRequest: null, stringNumbers: true }),
    /^redis: a client that is given must not have stringNumbers/,
  ],
  [
    'a client that pipelines by itself',
    () => new Redis({ lazyConnect: true, maxRetriesPerRequest: null, enableAutoPipelining: true }),
    /^redis: a client that is given must not have enableAutoPipelining/,
  ],
  [
    'a client of no database',
    () => new Redis('redis://h/abc', { lazyConnect: true, maxRetriesPerRequest: null }),
    /must have a whole number as db \(got NaN\)$/,
  ],
  [
    'a client that has ended',
    () => {
      const client = new Redis({ lazyConnect: true, maxRetriesPerRequest: null })
      client.disconnect()
      return client
    },
    /^redis: a client that is given has ended \(its status is 'end'\)$/,
  ],
  [
    'a client that maps replies of RESP3',
    () => new Redis({ lazyConnect: true, maxRetriesPerRequest: null, protocol: 3, replyMapping: 'resp3' }),
    /^redis: a client that is given must not have replyMapping/,
  ],
  [
    'a client of another library',
    () => ({ on() {}, once() {}, off() {}, connect() {}, duplicate() {}, multi() {}, publish() {}, quit() {}, subscribe() {}, disconnect() {}, options: {} }),
    /^redis must be .* URL or a client of ioredis 5 or later \(got an object without call, callBuffer, defineCommand, pipeline, status\)$/,
  ],
  [
    'connection options',
    () => ({ host: 'localhost', port: 6379 }),
    /^redis must be .* ioredis 5 or later \(got an object without call, .*, status, options\)$/,
  ],
])('%s is refused, and the error names the reason', async (_, given, message) => {
  const refused = Tollgate.open({ redis: given() as Client })
  await expect(refused).rejects.toBeInstanceOf(ConfigInvalid)
  await expect(refused).rejects.toThrow(message)
})

test.each(['redis-cluster://host:1', 'redis+cluster://host', 'redis-sentinel://host:26379/mymaster', 'sentinel://user:secret@host'])(
  'the URL %s is refused as not supported, without its password',
  async (redis) => {
    const refused = Tollgate.open({ redis })
    await expect(refused).rejects.toThrow(/^redis: URLs of a Redis Cluster or a Sentinel are not supported; .*\(got "[^"]*host[^"]*"\)$/)
    await expect(refused).rejects.not.toThrow(/secret/)
  },
)

test.each([
  'keyPrefix=app:',
  'maxRetriesPerRequest=3',
  'enableAutoPipelining=true',
  'stringNumbers=true',
  'enableOfflineQueue=false',
  'password=secret',
  'family=x',
])('a URL with the query ?%s is refused before anything is written', async (query) => {
  const refused = newNamespace().open({ redis: `${inject('redisUrl')}/0?${query}`, rules: [{ name: 'one', scope: 'agent', limits: [{ concurrency: 1 }] }] })
  await expect(refused).rejects.toBeInstanceOf(ConfigInvalid)
  await expect(refused).rejects.toThrow(/^redis must be .* URL, which may end with the number of a database and \?family=4 or 6 \(got "redis:[^?]*\/0\?…"\)$/)
})

test.each(['/abc', '/5x', '/1/2', '#secret'])('a URL that ends with %s is refused', async (end) => {
  await expect(Tollgate.open({ redis: `redis://u:pw@localhost:1${end}` })).rejects.toThrow(
    /^redis must be .* URL, which may end with the number of a database .*"redis:\/\/…@localhost:1/,
  )
})

test('a URL may end with a database and the family of its address', async () => {
  const tollgate = await newNamespace().open({ redis: `${inject('redisUrl')}/0?family=4` })
  expect((await tollgate.limiter({ requests: 1, per: 'hour' }).check('user')).allowed).toBe(true)
})

test.each<[unknown, string]>([
  [null, 'null'],
  [5, '5'],
  [true, 'true'],
])('a redis option of %s is shown in the error', async (redis, shown) => {
  await expect(Tollgate.open({ redis: redis as string })).rejects.toThrow(`redis: must be a redis:// or rediss:// URL or an ioredis client (got ${shown})`)
})
