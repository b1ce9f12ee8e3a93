import { expect, test } from 'vitest'
import { ConfigInvalid } from '../../src/index.js'
import { defaultLogger } from '../../src/telemetry/log.js'
import { Script } from '../support/script.js'

const OPEN = `const tollgate = await Tollgate.open({ rules: [] })
await tollgate.close()
console.log(JSON.stringify('done'))`

test.each<[Record<string, string>, string]>([
  [{}, 'warn'],
  [{ LOG_LEVEL: '' }, 'warn'],
  [{ LOG_LEVEL: 'debug' }, 'debug'],
  [{ LOG_LEVEL: 'ERROR' }, 'error'],
  [{ LOG_LEVEL: 'silent' }, 'silent'],
])('the default logger with the environment %o logs from %s on', (environment, level) => {
  expect(defaultLogger(environment).level).toBe(level)
})

test('an unknown LOG_LEVEL is refused, naming it', () => {
  expect(() => defaultLogger({ LOG_LEVEL: 'chatty' })).toThrow(ConfigInvalid)
  expect(() => defaultLogger({ LOG_LEVEL: 'chatty' })).toThrow(/^LOG_LEVEL must be one of fatal, error, warn, info, debug, trace, silent \(got "chatty"\)$/)
})

test('warnings go to standard error, and standard output stays empty but for the program’s own', async () => {
  const script = new Script(OPEN)
  expect(await script.result()).toBe('done')
  expect(script.errors).toContain('no Redis is configured')
})

test('LOG_LEVEL silences the warnings of a Tollgate that was given no logger', async () => {
  const script = new Script(OPEN, { LOG_LEVEL: 'error' })
  expect(await script.result()).toBe('done')
  expect(script.errors).toBe('')
})
