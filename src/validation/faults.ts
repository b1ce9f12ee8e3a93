import type { z } from 'zod'
import { withoutCredentials } from '../model/secrets.js'
import { faultWords } from './messages.js'

/** The longest value or field name that an error message quotes in full, in characters. */
const QUOTED = 80
/** How much of a value is looked through for secrets. */
const LONGEST_LOOK = 4096

function quoted(text: string): string {
  return text.length > QUOTED ? `${text.slice(0, QUOTED - 3)}… (${text.length} characters)` : text
}

/** A value as an error message quotes it: as JSON where it has such a form, cut where it is long. */
export function show(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'bigint' || value === undefined) return String(value)
  let text: string
  try {
    text = JSON.stringify(value) ?? String(value)
  } catch {
    text = Object.prototype.toString.call(value)
  }
  const long = text.length > LONGEST_LOOK
  // Before it is cut to its quoted length: what is cut off may be what tells a password.
  const plain = withoutCredentials(long ? text.slice(0, LONGEST_LOOK) : text, LONGEST_LOOK)
  return long ? `${plain.slice(0, QUOTED - 3)}… (${text.length} characters)` : quoted(plain)
}

/** The value at a path of an input, for an error message; undefined where the path leads nowhere. */
export function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value: unknown = input
  for (const key of path) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, key)) return undefined
    value = (value as Record<PropertyKey, unknown>)[key]
  }
  return value
}

/** The dotted path of a field as an error message names it, cut where it is long. */
export function fieldName(path: readonly PropertyKey[]): string {
  // As JSON: a field name may hold control characters, which a log or a terminal would obey.
  return quoted(JSON.stringify(path.map(String).join('.')).slice(1, -1))
}

/** What one kind of input is called in the messages about its faults. */
export interface FaultWording {
  /** Stands for the input itself, where a fault concerns no single field. */
  readonly whole: string
  /** The path of the input, where it is itself part of a larger one. */
  readonly under?: readonly PropertyKey[]
  /** Names a field; default `fieldName`. */
  readonly name?: (path: readonly PropertyKey[]) => string
  /** The message about a field that the schema does not have; default "is not a known field". */
  readonly unknownField?: string
  /** Quotes a value; default `show`. Inputs with secrets hide them here. */
  readonly show?: (value: unknown, path: readonly PropertyKey[]) => string
}

/** One fault of an input, ready to be put into a message. */
export interface InputFault {
  readonly path: readonly PropertyKey[]
  readonly field: string
  readonly message: string
  readonly got: string
}

/** The faults that a schema found in an input, in its order. Each unknown field is a fault of its own. */
export function faultsOf(error: z.ZodError, input: unknown, wording: FaultWording): InputFault[] {
  const { whole, under = [], name = fieldName, unknownField = 'is not a known field', show: quote = show } = wording
  return error.issues.flatMap((issue) => {
    const unknown = issue.code === 'unrecognized_keys' ? issue.keys : [undefined]
    return unknown.map((key): InputFault => {
      const path = key === undefined ? issue.path : [...issue.path, key]
      const field = name([...under, ...path]) || whole
      if (issue.code === 'invalid_key') return { path, field, message: `the key's name: ${issue.issues[0]?.message ?? issue.message}`, got: show(path.at(-1)) }
      return { path, field, message: key === undefined ? issue.message : unknownField, got: quote(valueAt(input, path), path) }
    })
  })
}

export function faultMessage(field: string, message: string, got: string): string {
  return `${field}: ${message} (got ${got})`
}

/** The output of a schema, or the faults of an input in our own words. */
export function safeParse<Schema extends z.ZodType>(schema: Schema, input: unknown): z.ZodSafeParseResult<z.output<Schema>> {
  return schema.safeParse(input, { error: faultWords })
}

/** Checks an input, and returns the output of its schema. @throws an error of `Invalid`, whose message names field, value and bound of the first fault */
export function checkInput<Schema extends z.ZodType>(
  schema: Schema,
  input: unknown,
  wording: FaultWording,
  Invalid: new (message: string) => Error,
): z.output<Schema> {
  const result = safeParse(schema, input)
  if (result.success) return result.data
  const [fault] = faultsOf(result.error, input, wording)
  throw new Invalid(fault === undefined ? `${wording.whole}: not valid` : faultMessage(fault.field, fault.message, fault.got))
}
