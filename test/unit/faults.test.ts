import { expect, test } from 'vitest'
import { z } from 'zod'
import { checkInput, faultsOf } from '../../src/validation/faults.js'

const schema = z.strictObject({ count: z.number('must be a number').optional(), names: z.record(z.string().min(2, 'is too short'), z.number()).optional() })

function messageOf(input: unknown, wording: Parameters<typeof checkInput>[2]): string {
  try {
    checkInput(schema, input, wording, RangeError)
    return 'no fault'
  } catch (error) {
    expect(error).toBeInstanceOf(RangeError)
    return (error as Error).message
  }
}

test('the message of an input names field, fault and value of its first fault', () => {
  expect(messageOf({ count: 1 }, { whole: 'input' })).toBe('no fault')
  expect(messageOf({ count: 'x' }, { whole: 'input' })).toBe('count: must be a number (got "x")')
  expect(messageOf({ count: 'x' }, { whole: 'input', under: ['limits', 0] })).toBe('limits.0.count: must be a number (got "x")')
  expect(messageOf(5, { whole: 'input' })).toMatch(/^input: .* \(got 5\)$/)
  expect(messageOf({ more: 2 }, { whole: 'input' })).toBe('more: is not a known field (got 2)')
  expect(messageOf({ more: 2 }, { whole: 'input', unknownField: 'is no option' })).toBe('more: is no option (got 2)')
  expect(messageOf({ names: { x: 1 } }, { whole: 'input' })).toBe('names.x: the key\'s name: is too short (got "x")')
})

test('a secret is not quoted, and a field name cannot write to a terminal', () => {
  expect(messageOf({ count: 'secret' }, { whole: 'input', show: () => 'hidden' })).toBe('count: must be a number (got hidden)')
  expect(messageOf({ '\u001b[2J': 1 }, { whole: 'input' })).toBe('\\u001b[2J: is not a known field (got 1)')
})

test('every fault of an input is found, each unknown field by itself', () => {
  const input = { count: 'x', one: 1, two: 2 }
  const parsed = schema.safeParse(input)
  expect(parsed.success).toBe(false)
  if (parsed.success) return
  const faults = faultsOf(parsed.error, input, { whole: 'input' })
  expect(faults.map(({ field, got }) => `${field} ${got}`).sort()).toEqual(['count "x"', 'one 1', 'two 2'])
})
