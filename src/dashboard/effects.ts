import { z } from 'zod'
import type { GrantSpec } from '../administration/grant.js'
import { meterSchema } from '../administration/meters.js'
import { pausedSubject } from '../administration/pauses.js'
import { limitName, unitOf } from '../limits/limit.js'
import { RequestInvalid } from '../model/errors.js'
import { escapePart } from '../policy/match.js'
import { subjectOf } from '../policy/override.js'
import { checkInput } from '../validation/faults.js'
import { compileGlob } from '../validation/patterns.js'
import type { Figures } from './figures.js'

/** 03:19:17 UTC */
export function clockText(atMs: number): string {
  return `${new Date(atMs).toISOString().slice(11, 19)} UTC`
}

const numberText = (value: number) => value.toLocaleString('en-US', { maximumFractionDigits: 2 })

const grantShape = z.object({
  for: z.record(z.string(), z.string()),
  rules: z.array(z.string().max(256)).max(100).optional(),
  allow: z.union([z.literal('unlimited'), z.object({ times: z.number().positive() })]),
  reason: z.string().optional(),
  forMs: z.number().positive(),
})

/** What an override would change, in numbers. @throws RequestInvalid */
export async function grantEffects(figures: Figures, body: unknown): Promise<string[]> {
  const {
    for: subject,
    rules: globs,
    allow,
    forMs,
  } = checkInput(grantShape, body, { whole: 'override' }, RequestInvalid) as z.output<typeof grantShape> & Pick<GrantSpec, 'for'>
  const [kind = '', name = ''] = Object.entries(subject)[0] ?? []
  if (name === '') return ['Name whom the override is for.']
  const matches = globs?.map((glob) => compileGlob(glob))
  const rules = figures.source.rules
    .list()
    .filter((rule) => (kind === 'rule' ? rule.name === name : [rule.scope].flat().includes(kind)) && (matches?.some((match) => match(rule.name)) ?? true))
  if (rules.length === 0) return [`No rule counts by ${kind}${globs === undefined ? '' : ' among those named'}: it would change nothing.`]
  const until = clockText(Date.now() + forMs)
  const sentences = await Promise.all(
    rules.slice(0, 4).map(async (rule) => {
      const single = [rule.scope].flat().length === 1 && kind !== 'rule'
      const usage = single ? await figures.usage(rule.name, escapePart(name)) : []
      const limits = rule.limits.map((limit) => {
        const unit = unitOf(limit)
        const amount = limit[unit] ?? 0
        const used = usage.find((one) => one.limit === limitName(limit))
        const becomes = allow === 'unlimited' ? 'no limit' : numberText(amount * allow.times)
        return `${becomes} ${limitName(limit)} instead of ${numberText(amount)}${used === undefined ? '' : ` (${numberText(used.used)} used now)`}`
      })
      return `${rule.name}: ${limits.join(', ')}.`
    }),
  )
  const more = rules.length > 4 ? [`And ${rules.length - 4} more rules.`] : []
  return [`Until ${until} ${name} may use:`, ...sentences, ...more]
}

/** @throws RequestInvalid */
export async function pauseEffects(figures: Figures, body: unknown): Promise<string[]> {
  const { for: subject } = checkInput(z.strictObject({ for: pausedSubject }), body, { whole: 'pause' }, RequestInvalid)
  const [kind, name] = subjectOf({ for: subject })
  const looked = await figures.linesNow()
  const waiting = (looked?.lines ?? []).flatMap(({ rule, scopeValue, depth, who }) => {
    if (kind === 'rule') return rule === name ? [depth] : []
    if (kind === 'org') return [who.find(({ org }) => org === name)?.calls ?? 0]
    return scopeValue === escapePart(name) ? [depth] : []
  })
  const now = waiting.reduce((sum, count) => sum + count, 0)
  return [
    `No call ${kind === 'agent' ? 'to' : kind === 'rule' ? 'that is covered by' : 'of'} ${name} starts until it is resumed; calls that run go on.`,
    `${now === 0 ? 'None is known to wait now' : `About ${numberText(now)} wait now, and keep their places`}; new ones wait behind them.`,
  ]
}

/** @throws RequestInvalid, RULE_UNKNOWN */
export async function resetEffects({ source }: Figures, body: unknown): Promise<string[]> {
  const meter = checkInput(meterSchema, body, { whole: 'meter' }, RequestInvalid)
  const usage = await source.meters.get(meter)
  const used = usage.filter((one) => one.used > 0).map((one) => `${numberText(one.used)} of ${numberText(one.capacity)} ${one.limit}`)
  if (used.length === 0) return ['Nothing is counted there: it would change nothing.']
  return [`It forgets ${used.join(', ')}. As much more may start at once; the agent may refuse that.`]
}
