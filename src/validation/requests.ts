import { z } from 'zod'
import { MAX_NAME_LENGTH } from '../model/call.js'
import { RequestInvalid } from '../model/errors.js'
import { checkInput } from './faults.js'

/** Who asks for something, or for whom: a name that logs and terminals can show. */
export const who = z
  .string()
  .min(1)
  .max(MAX_NAME_LENGTH)
  .refine((value) => !/\p{Cc}/u.test(value) && value.isWellFormed(), 'must be text without control characters')

/** Why, in a person's words. */
export const words = z
  .string()
  .max(1000)
  .refine((value) => value.isWellFormed(), 'must be well-formed unicode')

/** A time that a person gives, in ms since the epoch: ISO 8601 with its zone, or a date. */
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

/** Checks what was asked for. @throws RequestInvalid naming field, value and bound */
export function checkRequest<Schema extends z.ZodType>(schema: Schema, input: unknown, whole: string): z.output<Schema> {
  return checkInput(schema, input, { whole }, RequestInvalid)
}

/** Who asks: as they say, else who this process acts for. @throws RequestInvalid */
export function actorOf(by: unknown, actor: string): string {
  return by === undefined ? actor : checkRequest(z.strictObject({ by: who }), { by }, 'by').by
}
