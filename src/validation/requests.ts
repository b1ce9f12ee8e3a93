import { z } from 'zod'
import { MAX_NAME_LENGTH } from '../model/call.js'
import { RequestInvalid } from '../model/errors.js'
import { checkInput } from './faults.js'

/** The name of an actor or of a subject (a user, a team, …), free of what a log or a terminal would obey. */
export const plainName = z
  .string()
  .min(1)
  .max(MAX_NAME_LENGTH)
  .refine((value) => !/\p{Cc}/u.test(value) && value.isWellFormed(), 'must be text without control characters')

/** The name of a subject of an override or a pause. One with a `*` names no subject. */
export const subjectName = plainName.refine(
  (value) => !value.includes('*'),
  'must be one name, without *: an override for many has `rules`, and `exempt` takes globs',
)

export const freeText = z
  .string()
  .max(1000)
  .refine((value) => value.isWellFormed(), 'must be well-formed unicode')

/** A time as an operator writes it (ISO 8601 with its zone, or a Date); the output is ms since the epoch. */
export const moment = z.union(
  [
    z
      .string()
      .regex(/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/)
      .refine((text) => !Number.isNaN(Date.parse(text)))
      .transform((text) => Date.parse(text)),
    z.date().transform((date) => date.getTime()),
  ],
  'must be a date, or a time in ISO 8601 such as 2030-01-31T12:00:00Z',
)

/** Checks the input of an administrative verb. @param whole what messages call the input itself. @throws RequestInvalid naming field, value and bound */
export function checkRequest<Schema extends z.ZodType>(schema: Schema, input: unknown, whole: string): z.output<Schema> {
  return checkInput(schema, input, { whole }, RequestInvalid)
}

/** The actor of a change, for the audit: `by` where it is given, else the process' own `actor`. @throws RequestInvalid */
export function actorOf(by: unknown, actor: string): string {
  return by === undefined ? actor : checkRequest(z.strictObject({ by: plainName }), { by }, 'by').by
}
