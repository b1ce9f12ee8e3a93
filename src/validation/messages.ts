import type { z } from 'zod'

/** What a kind of value is called in a message to a user. */
const KINDS: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  bigint: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object with named fields',
  record: 'an object with named fields',
  date: 'a date',
  function: 'a function',
  undefined: 'left out',
  null: 'null',
}

const SIZES: Readonly<Record<string, readonly [one: string, many: string]>> = { string: ['character', 'characters'], array: ['entry', 'entries'] }

function bounded(origin: string, most: boolean, bound: number | bigint, inclusive: boolean | undefined): string {
  const unit = SIZES[origin]
  const side = inclusive === false ? (most ? 'below' : 'above') : most ? 'at most' : 'at least'
  if (unit === undefined) return `must be ${side} ${bound}`
  return `must have ${side} ${bound} ${unit[Number(bound) === 1 ? 0 : 1]}`
}

function oneOf(options: readonly string[]): string {
  return options.length < 2 ? options.join('') : `${options.slice(0, -1).join(', ')} or ${options.at(-1)}`
}

/**
 * The message of a fault for which a schema has no words of its own: what the value must be. Given to every check of an input, so that no
 * message of the validation library reaches a user.
 */
export const faultWords: z.core.$ZodErrorMap = (issue) => {
  switch (issue.code) {
    case 'invalid_type':
      return `${issue.input === undefined ? 'is required: it ' : ''}must be ${KINDS[issue.expected] ?? `of the kind ${issue.expected}`}`
    case 'too_big':
      return bounded(issue.origin, true, issue.maximum, issue.inclusive)
    case 'too_small':
      return bounded(issue.origin, false, issue.minimum, issue.inclusive)
    case 'not_multiple_of':
      return `must be a multiple of ${issue.divisor}`
    case 'invalid_value':
      return `must be ${oneOf(issue.values.map((value) => JSON.stringify(value) ?? String(value)))}`
    case 'invalid_format':
      return `must be written as ${issue.format}`
    case 'invalid_union': {
      const forms = issue.errors.flatMap(([first]) => (first === undefined ? [] : [first.message.replace(/^(is required: it )?must be /, '')]))
      return forms.length === 0 ? 'has none of the forms that it may have' : `must be ${oneOf([...new Set(forms)])}`
    }
    case 'unrecognized_keys':
    case 'invalid_key':
    case 'invalid_element':
    case 'custom':
      return 'is not valid'
    default:
      issue satisfies never
      return 'is not valid'
  }
}
