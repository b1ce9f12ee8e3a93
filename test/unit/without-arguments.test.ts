import { expect, test } from 'vitest'
import { TollgateError } from '../../src/model/errors.js'
import { withoutArguments } from '../../src/model/secrets.js'

const failed = (message: string, more: object = {}) => Object.assign(new Error(message), { command: { name: 'auth', args: ['secret'] } }, more)

test('the arguments of a command are removed from an error, from its causes and from what a transaction failed by', () => {
  const cause = failed("ERR unknown command 'AUTH', with args beginning with: 'u' 'secret' ")
  const previous = failed('ERR')
  const error = failed('EXECABORT', { cause, previousErrors: [previous] })
  cause.cause = error
  expect(withoutArguments(error)).toBe(error)
  for (const one of [error, cause, previous]) {
    expect(one).not.toHaveProperty('command')
    expect(`${one.message}${one.stack}`).not.toContain('secret')
  }
  expect(cause.message).toBe("ERR unknown command 'AUTH'")
})

test('an error of Tollgate removes them from its cause; a command that is none of Redis stays', () => {
  const cause = failed('WRONGPASS')
  expect(new TollgateError('REDIS_UNAVAILABLE', 'x', { cause }).cause).toBe(cause)
  expect(cause).not.toHaveProperty('command')
  expect(withoutArguments(Object.assign(new Error('exit 1'), { command: 'ls' }))).toHaveProperty('command', 'ls')
  expect(withoutArguments('text')).toBe('text')
})
