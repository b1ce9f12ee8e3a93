import { isIP } from 'node:net'
import { z } from 'zod'
import { anyOwn } from '../limits/compiled-limit.js'
import type { LimitSpec } from '../limits/limit.js'
import { RequestInvalid, RulesInvalid } from '../model/errors.js'
import { compileLimits } from '../policy/compile.js'
import { type Allowance, OVERRIDABLE, type Overridable, REASONS, type Reason } from '../policy/override.js'
import { glob, range as ruleRange } from '../policy/rule.js'
import { checkRules } from '../policy/rules-file.js'
import { plainAddress } from '../validation/address.js'
import { show } from '../validation/faults.js'
import { checkRequest, freeText, moment, plainName, subjectName } from '../validation/requests.js'

/** An override to grant. */
export interface GrantSpec {
  /** The subject, by exactly one field: a rule (all its meters), or a user, team, org, ip or agent (its meters in the rules that count by it). An ip is an address or a CIDR range. */
  for: { [Kind in Overridable]?: string | undefined }
  /** The rules that it applies to, by name or glob; default all that count by its subject. */
  rules?: string[] | undefined
  /** Lifts every rule (or those in `rules`) for the calls of the subject, also the rules that count by something else; default false. For `unlimited` only. */
  everything?: boolean | undefined
  /** No limit at all; limits and bursts multiplied by a number (below 1 allows less); or other limits in place of the rule's. */
  allow: Allowance
  reason: Reason
  /** The reason as free text, at most 1000 characters. */
  text?: string | undefined
  /** The actor that grants it; required where `Tollgate.open` has no `actor`. */
  by?: string | undefined
  /** The duration in ms; either this or `until` is required. */
  forMs?: number | undefined
  /** The end by Redis' clock: ISO 8601 or a Date. */
  until?: string | Date | undefined
}

/** A checked grant. Its end is checked by `endOfGrant`, which knows the time of Redis. */
export type CheckedGrant = ReturnType<typeof checkGrant>

const MOST_TIMES = 1e6

const range = ruleRange.transform((value) => (isIP(value) === 0 ? value : plainAddress(value)))

export const grantSchema = z
  .strictObject({
    for: z
      .strictObject({
        user: subjectName.optional(),
        team: subjectName.optional(),
        org: subjectName.optional(),
        ip: range.optional(),
        agent: subjectName.optional(),
        rule: subjectName.optional(),
      })
      .refine((subject) => kindsOf(subject).length === 1, `must name exactly one of ${OVERRIDABLE.join(', ')}`),
    rules: z.array(glob).min(1).max(1000).optional(),
    everything: z.boolean().optional(),
    allow: z.union(
      [
        z.literal('unlimited'),
        z.strictObject({ times: z.number().positive().max(MOST_TIMES) }),
        z.strictObject({ limits: z.array(z.unknown()).min(1) }).transform(({ limits }) => ({ limits: limits as LimitSpec[] })),
      ],
      `must be "unlimited", { times: a number above 0, at most ${MOST_TIMES} }, or { limits: a list of limits }`,
    ),
    reason: z.enum(REASONS),
    text: freeText.optional(),
    by: plainName,
    forMs: z.number('must be a number of milliseconds').positive().optional(),
    until: moment.optional(),
  })
  .refine(({ forMs, until }) => (forMs === undefined) !== (until === undefined), {
    path: ['forMs'],
    message: 'or until is required, and one of them only: every override has an end',
  })
  .refine(({ everything, allow, for: subject }) => everything !== true || (allow === 'unlimited' && subject.rule === undefined), {
    path: ['everything'],
    message: 'is for an override that is "unlimited", of a user, team, org, ip or agent',
  })

function kindsOf(subject: { readonly [Kind in Overridable]?: string | undefined }): Overridable[] {
  return OVERRIDABLE.filter((kind) => subject[kind] !== undefined)
}

/** Checks the limits of an override like those of a rule. @throws RequestInvalid */
function checkOverrideLimits(given: readonly LimitSpec[]): LimitSpec[] {
  try {
    const limits = checkRules([{ name: 'override', scope: 'global', limits: [...given] }]).rules.flatMap((rule) => rule.limits)
    compileLimits('override', limits, anyOwn)
    return limits
  } catch (error) {
    if (!(error instanceof RulesInvalid)) throw error
    throw new RequestInvalid(error.faults.map((fault) => fault.replace(/^rules\.0\.limits/, 'allow.limits')).join('\n'))
  }
}

/** Checks a grant. @param actor the default of `by`. @throws RequestInvalid naming field, value and bound */
export function checkGrant(spec: GrantSpec, actor: string | undefined) {
  const given: unknown = spec !== null && typeof spec === 'object' && spec.by === undefined && actor !== undefined ? { ...spec, by: actor } : spec
  const { until, forMs, allow, for: subject, ...rest } = checkRequest(grantSchema, given, 'override')
  return {
    for: Object.fromEntries(kindsOf(subject).map((kind) => [kind, subject[kind] as string])),
    ...rest,
    allow: typeof allow === 'object' && 'limits' in allow ? { limits: checkOverrideLimits(allow.limits) } : allow,
    forMs,
    untilMs: until,
  }
}

/** The end of an override in ms since the epoch. @throws RequestInvalid where it is past, or more than `longestMs` ahead */
export function endOfGrant({ forMs, untilMs }: CheckedGrant, nowMs: number, longestMs: number): number {
  const lastsMs = untilMs === undefined ? (forMs ?? 0) : untilMs - nowMs
  if (lastsMs <= longestMs && lastsMs > 0) return Math.ceil(nowMs + lastsMs)
  const bound = `must be at most ${longestMs} ms ahead, the longest that an override may hold here (longestOverrideMs)`
  if (untilMs === undefined) throw new RequestInvalid(`forMs: ${bound} (got ${show(forMs)})`)
  throw new RequestInvalid(`until: ${lastsMs <= 0 ? 'must be ahead' : bound} (got ${new Date(untilMs).toISOString()}, now ${new Date(nowMs).toISOString()})`)
}
