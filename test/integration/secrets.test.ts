import { pino } from 'pino'
import { expect, test } from 'vitest'
import { workerConfig } from '../../src/cli/worker-config.js'
import { httpAgent, TollgateError } from '../../src/index.js'
import { safeLogger } from '../../src/telemetry/log.js'
import { show } from '../../src/validation/faults.js'
import { json, startAgent } from '../support/http-agent.js'
import { newNamespace } from '../support/namespace.js'
import { codeOf } from '../support/place.js'
import { until } from '../support/until.js'

const KEY = 'sk-hunter2+/='
const AGENTS = (url: string, name = 'THE_KEY') => ({ a: { baseUrl: url, apiKeyEnv: name } })

test('a key that an agent echoes stands in no error, answer, job or log line', async () => {
  const echo = (authorization: string) => `bad key: ${authorization}, ${encodeURIComponent(KEY)}`
  const agent = await startAgent((response, count) => {
    const said = echo(agent.requests[count - 1]?.headers['authorization'] ?? '')
    if (count === 1) response.writeHead(401).end(said)
    else json(response, { said })
  })
  const lines: string[] = []
  const namespace = newNamespace()
  const tollgate = await namespace.open({ logger: pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) }) })
  tollgate.worker(httpAgent(AGENTS(agent.url), { THE_KEY: KEY }))
  const failure = await (await tollgate.enqueue({ agent: 'a' })).result().catch((error: Error) => `${error.message} ${error.stack}`)
  const answer = await (await tollgate.enqueue({ agent: 'a' })).result()
  expect(agent.requests.every(({ headers }) => headers['authorization'] === `Bearer ${KEY}`)).toBe(true)
  expect(failure).toContain('a answered 401: bad key: Bearer [hidden], [hidden]')
  expect(JSON.stringify(answer)).toContain('[hidden]')
  const kept: unknown[] = [lines, failure, answer]
  for (const key of await namespace.allKeys()) if ((await namespace.redis.type(key)) === 'hash') kept.push(await namespace.redis.hgetall(key))
  expect(kept.length).toBeGreaterThan(4)
  expect(JSON.stringify(kept)).not.toMatch(/hunter2/)
})

test('an agent is sent only variables whose names the process allows', () => {
  const environment = { DATABASE_URL: 'x', PATH: 'x', OPENAI_API_KEY: 'x', HF_TOKEN: 'x', MY_SECRET: 'x' }
  for (const name of ['OPENAI_API_KEY', 'HF_TOKEN']) expect(() => httpAgent(AGENTS('http://h', name), environment)).not.toThrow()
  for (const name of ['DATABASE_URL', 'PATH', 'MY_SECRET'])
    expect(() => httpAgent(AGENTS('http://h', name), environment)).toThrow(
      `agents.a.apiKeyEnv: must have a name that this process allows, *_KEY or *_TOKEN (got "${name}")`,
    )
  expect(() => httpAgent(AGENTS('http://h', 'MY_SECRET'), environment, { keyNames: ['MY_*'] })).not.toThrow()
  expect(() => httpAgent(AGENTS('http://h', 'HF_TOKEN'), environment, { keyNames: ['MY_*'] })).toThrow(/apiKeyEnv/)
  expect(() => httpAgent(AGENTS('http://h', 'HF_TOKEN'), environment, { keyname: ['*'] } as object)).toThrow(/^keyname/)
})

test.each([
  ['redis://user:hunter2@host:6379/0', '"redis://…@host:6379/0"'],
  ['https://u:hunter2@host/x?y=1', '"https://…@host/x?y=1"'],
  ['https://host/x?api_key=hunter2&z=1', '"https://host/x?api_key=…&z=1"'],
  ['rediss://:hunter@2/hunter2@host', '"rediss://…@host"'],
  ['https://host/a@b', '"https://…@b"'],
  ['a@b.example', '"a@b.example"'],
])('%s is shown as %s', (text, shown) => {
  expect(show(text)).toBe(shown)
  expect(new TollgateError('CONFIG_INVALID', `bad: "${text}"`).message).not.toMatch(/hunter/)
})

test('a long value with credentials is cut after they are taken out', () => {
  expect(show(`redis://user:${'hunter2'.repeat(50)}@host`)).toBe('"redis://…@host"')
})

test('a worker process names a bus that is none without its password', async () => {
  const error: unknown = await workerConfig({ rules: 'x.yaml', bus: 'nat://user:hunter2@host' }, {}).catch((thrown: unknown) => thrown)
  expect(String(error)).toMatch(/bus \(flag\)/)
  expect(String(error)).not.toMatch(/hunter2/)
})

test('no log line of a logger that the app gave has arguments of Redis commands, or credentials', () => {
  const lines: string[] = []
  const log = safeLogger(pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) }))
  const failed = Object.assign(new Error('WRONGPASS for redis://u:hunter2@host'), { command: { name: 'auth', args: ['u', 'hunter2'] } })
  log.error({ err: failed, where: 'https://u:hunter2@host' }, 'failed')
  log.warn({ err: new Error('outer', { cause: failed }) }, 'failed')
  log.info('at https://u:hunter2@host')
  expect(lines).toHaveLength(3)
  expect(lines.join()).not.toMatch(/hunter2/)
})

test('an agent that does not answer in time fails the call, as does one that answers too much', async () => {
  const agent = await startAgent((response, count) => {
    if (count === 2) response.writeHead(200).end('x'.repeat(60_000))
    if (count === 3) response.writeHead(500).end('x'.repeat(60_000))
  })
  const tollgate = await newNamespace().open({ attempts: 3 })
  const slow = httpAgent({ slow: { baseUrl: agent.url } }, {}, { timeoutMs: 100 })
  const big = httpAgent({ big: { baseUrl: agent.url } }, {}, { maxResultBytes: 50_000 })
  const handler: typeof big = (call, context) => (call.agent === 'slow' ? slow : big)(call, context)
  let runs = 0
  tollgate.worker((call, context) => {
    runs++
    return handler(call, { ...context, signal: context.signal })
  })
  const once = await newNamespace().open({ attempts: 1 })
  once.worker(handler)
  expect(await codeOf((await once.enqueue({ agent: 'slow' })).result())).toBe('CALL_TIMED_OUT')
  const tooBig = await (await tollgate.enqueue({ agent: 'big' })).result().catch((error: Error) => error.message)
  expect(tooBig).toBe('big answered more than 50000 bytes (maxResultBytes)')
  expect(await codeOf((await once.enqueue({ agent: 'big' })).result())).toBe('UPSTREAM_FAILED')
  await until('every charge is settled', async () => (await tollgate.stats.ledger()).open === 0)
  expect(runs).toBe(1)
})
