import { expect, test } from 'vitest'
import { ConfigInvalid, Tollgate, TollgateError, type TollgateOptions } from '../../src/index.js'
import { checkWorker } from '../../src/options.js'

const SECRET = 'hunter2'

async function refusal(options: unknown): Promise<TollgateError> {
  const error: unknown = await Tollgate.open(options as TollgateOptions).then(
    (tollgate) => tollgate.close(),
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof TollgateError)) throw new Error(`not refused: ${String(error)}`)
  return error
}

test.each<[string, unknown, RegExp]>([
  ['an unknown option', { namespaces: 'a' }, /^namespaces: is not a known option \(got "a"\)$/],
  ['constructor as an option', { constructor: 1 }, /^constructor: is not a known option \(got 1\)$/],
  ['__proto__ as an option', JSON.parse('{"__proto__":{"queue":"x"}}'), /^__proto__: is not a known option/],
  ['null for options', null, /^options: must be an object with named fields \(got null\)$/],
  ['an empty namespace', { namespace: '' }, /^namespace must be 1 to 64 letters, digits, \. _ or - \(got ""\)$/],
  ['a brace in the namespace', { namespace: 'a}b' }, /^namespace must be .* \(got "a\}b"\)$/],
  ['a colon in the namespace', { namespace: 'a:b' }, /^namespace must be .* \(got "a:b"\)$/],
  ['a namespace too long', { namespace: 'n'.repeat(65) }, /^namespace must be 1 to 64/],
  ['a namespace with a line break at its end', { namespace: 'a\n' }, /^namespace must be 1 to 64 .* \(got "a\\n"\)$/],
  ['a number for a namespace', { namespace: 5 }, /^namespace: must be a text \(got 5\)$/],
  ['an empty queue', { queue: '' }, /^queue: must be 1 to 128 letters, digits, \. _ or - \(got ""\)$/],
  ['a colon in the queue', { queue: 'a:b' }, /^queue: must be .* \(got "a:b"\)$/],
  ['a slash in the queue', { queue: 'a/b' }, /^queue: must be .* \(got "a\/b"\)$/],
  ['a queue too long', { queue: 'q'.repeat(129) }, /^queue: must be 1 to 128/],
  ['an empty actor', { actor: '' }, /^actor: must have at least 1 character \(got ""\)$/],
  ['an override of no time', { longestOverrideMs: 0 }, /^longestOverrideMs: must be at least 1000 \(got 0\)$/],
  ['an override without end', { longestOverrideMs: Number.POSITIVE_INFINITY }, /^longestOverrideMs: .*\(got Infinity\)$/],
  ['an audit of no time', { auditRetentionMs: 1 }, /^auditRetentionMs: must be at least 1000 \(got 1\)$/],
  ['a permanent list without rules', { exempt: { users: ['root'] } }, /^exempt: belong to rules; give those, too \(got exempt alone\)$/],
  ['a permanent list beside a file', { exempt: {}, rules: 'x.yaml' }, /^exempt: stand in the rules file, where there is one \(got both\)$/],
  ['no attempts', { attempts: 0 }, /^attempts: must be at least 1 \(got 0\)$/],
  ['too many attempts', { attempts: 1001 }, /^attempts: must be at most 1000 \(got 1001\)$/],
  ['half an attempt', { attempts: 1.5 }, /^attempts: must be a whole number \(got 1\.5\)$/],
  ['a timeout of NaN', { connectTimeoutMs: Number.NaN }, /^connectTimeoutMs: must be a number \(got NaN\)$/],
  ['an estimate that is a number', { estimate: 100 }, /^estimate: must be a function \(got 100\)$/],
  ['a logger without methods', { logger: {} }, /^logger: must be a pino logger, which has the methods error, warn, info, debug \(got \{\}\)$/],
  ['a logger with one method', { logger: { info() {} } }, /^logger: must be a pino logger/],
  ['a clock without a time', { clock: {} }, /^clock: must be a clock, which has a method forScripts \(got \{\}\)$/],
  ['a store without methods', { store: {} }, /^store: must be a store, which has the methods admit, .*compareAndSet \(got \{\}\)$/],
  ['rules that are a number', { rules: 5 }, /^rules: .* \(got 5\)$/],
  ['an empty path of rules', { rules: '' }, /^rules: .* \(got ""\)$/],
])('%s is refused, naming option, value and bound', async (_, options, message) => {
  const error = await refusal(options)
  expect(error).toBeInstanceOf(ConfigInvalid)
  expect(error.code).toBe('CONFIG_INVALID')
  expect(error.message).toMatch(message)
})

test.each([
  `http://user:${SECRET}@host`,
  `user:${SECRET}@host:6379`,
  `redis:user:${SECRET}@host`,
  `:${SECRET}@host`,
  `redis//user:${SECRET}@host`,
  `redis://user:${SECRET}@host:99999`,
  `redis://user:${SECRET}@`,
  `redis://user:${SECRET}%zz@host`,
  `redis://user:hun\n${SECRET}@host`,
  `redis://user:${SECRET} @host`,
  `redis://user:p@${SECRET}@ho st`,
  `redis://user:${SECRET}/@ho st`,
  `http://host/?password=${SECRET}`,
  { host: 'host', password: SECRET },
  { url: `redis://:${SECRET}@host` },
  [`redis://:${SECRET}@host`],
])('a bad redis option is refused, and its credentials are not in the message: %j', async (redis) => {
  const error = await refusal({ redis })
  expect(error).toBeInstanceOf(ConfigInvalid)
  expect(error.message).toMatch(/^redis/)
  expect(error.message).toMatch(/URL/)
  expect(`${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`).not.toContain(SECRET)
})

test('a Redis that does not answer is named by its address, without credentials', async () => {
  const error = await refusal({ redis: `redis://user:${SECRET}@127.0.0.1:1`, requireRedis: true, connectTimeoutMs: 100 })
  expect(error.code).toBe('REDIS_UNAVAILABLE')
  expect(error.retryable).toBe(true)
  expect(error.message).toMatch(/^Redis at 127\.0\.0\.1:1 did not answer within 100 ms/)
  expect(error.message).not.toContain(SECRET)
})

test.each([undefined, null, 5, {}, 'handler'])('a handler that is %s is refused before a worker takes a call', (handler) => {
  expect(() => checkWorker(handler, {})).toThrow(/^handler: must be a function \(got /)
})
