import { createRequire } from 'node:module'
import { Cluster, Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis5'
import { expect, inject, onTestFinished, test } from 'vitest'
import { ConfigInvalid, Tollgate, type TollgateOptions } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

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
  ['a Cluster without servers', () => new Cluster([], { lazyConnect: true }), /^redis: the ioredis Cluster that is given names no server$/],
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
    /^redis must be a URL or a client of ioredis 5 or later \(got an object without call, callBuffer, defineCommand, pipeline, status\)$/,
  ],
  [
    'connection options',
    () => ({ host: 'localhost', port: 6379 }),
    /^redis must be a URL or a client of ioredis 5 or later \(got an object without call, .*, status, options\)$/,
  ],
])('%s is refused, and the error names the reason', async (_, given, message) => {
  const refused = Tollgate.open({ redis: given() as Client })
  await expect(refused).rejects.toBeInstanceOf(ConfigInvalid)
  await expect(refused).rejects.toThrow(message)
})

test.each<[string, RegExp]>([
  ['redis+cluster://host:1', /of such a Redis begins with redis-cluster:\/\//],
  ['redis-sentinel://host:26379/mymaster', /of such a Redis begins with sentinel:\/\//],
  ['sentinel://user:secret@host', /must name its master after the hosts/],
  ['sentinel://user:secret@host/main/x', /may end with \/ and the number of a database/],
  ['redis-cluster://user:secret@host:1,other/4', /has database 0 alone/],
  ['redis://user:secret@host:1,other:2', /may name one host; several need sentinel:\/\/ or redis-cluster:\/\//],
  ['redis://user:sec%zzret@host', /has a %-escape that cannot be read/],
  ['redis://user:secret@host:99999', /with a port from 1 to 65535/],
  ['rediss://user:secret@host?ca=/no/such/file', /names a file of ca that cannot be read: ENOENT/],
  ['rediss://user:secret@host?cert=/dev/null', /must name both cert and key/],
  ['unix://user:secret@host/run/redis.sock', /must have the path of a unix socket, which begins with \//],
  ['http://user:secret@host', /must have one of the forms redis:\/\/host:port, /],
])('the URL %s is refused, without its password', async (redis, message) => {
  const refused = Tollgate.open({ redis })
  await expect(refused).rejects.toBeInstanceOf(ConfigInvalid)
  await expect(refused).rejects.toThrow(message)
  await expect(refused).rejects.not.toThrow(/secret|ret@|zzret/)
})

test.each(['keyPrefix=app:', 'maxRetriesPerRequest=3', 'enableAutoPipelining=true', 'stringNumbers=true', 'enableOfflineQueue=false', 'password=secret'])(
  'a URL with the query ?%s is refused before anything is written',
  async (query) => {
    const refused = newNamespace().open({ redis: `${inject('redisUrl')}/0?${query}`, rules: [{ name: 'one', scope: 'agent', limits: [{ concurrency: 1 }] }] })
    await expect(refused).rejects.toBeInstanceOf(ConfigInvalid)
    await expect(refused).rejects.toThrow(/^redis: the URL may hold family in its query, and no "\w+" \(got "redis:[^?]*\/0\?…"\)$/)
  },
)

test.each(['/abc', '/5x', '/1/2'])('a URL that ends with %s is refused', async (end) => {
  await expect(Tollgate.open({ redis: `redis://u:pw@localhost:1${end}` })).rejects.toThrow(
    /^redis: the URL may end with \/ and the number of a database .*"redis:\/\/…@localhost:1/,
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
  await expect(Tollgate.open({ redis: redis as string })).rejects.toThrow(`redis: must be a URL or an ioredis client (got ${shown})`)
})

test('the Tollgates that are given one client share its connection, and one more for what they hear', async () => {
  const namespaces = [newNamespace(), newNamespace(), newNamespace()]
  const name = `shared-${namespaces[0]?.name}`
  const client = new Redis(inject('redisUrl'), { maxRetriesPerRequest: null, connectionName: name })
  onTestFinished(() => client.disconnect())
  const connections = async () =>
    String(await client.client('LIST'))
      .split('\n')
      .filter((line) => line.includes(`name=${name}`)).length
  const rules = [{ name: 'r', scope: 'agent' as const, limits: [{ requests: 1, per: 'hour' as const }] }]
  const tollgates = await Promise.all([...namespaces, ...namespaces].map((namespace) => namespace.open({ redis: client, rules })))
  expect(await connections()).toBe(2)
  const [first, second, , again] = tollgates as [Tollgate, Tollgate, Tollgate, Tollgate]
  await first.close()
  // Another of its namespace goes on to hear, and no other namespace does.
  await again.rules.add({ name: 'more', scope: 'agent', limits: [{ requests: 2, per: 'hour' }] })
  const listening = await client.pubsub('CHANNELS', `${namespaces[0]?.keys.prefix.replace(/[{}]/g, '\\$&')}*`)
  expect(listening).toContain(namespaces[0]?.keys.notices)
  expect((await second.rules.list()).map((rule) => rule.name)).toEqual(['r'])
  await again.close()
  await until('no channel of the namespace is subscribed to', async () => (await client.pubsub('CHANNELS', String(namespaces[0]?.keys.notices))).length === 0)
  for (const tollgate of tollgates) await tollgate.close()
  await until('one connection is left', async () => (await connections()) === 1)
  const later = await (namespaces[1] as (typeof namespaces)[number]).open({ redis: client, rules })
  expect((await later.gate.admit({ agent: 'a' })).allowed).toBe(true)
})
