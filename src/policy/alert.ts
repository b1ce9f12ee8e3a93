import { z } from 'zod'
import { periodMs } from '../limits/limit.js'
import { MAX_NAME_LENGTH } from '../model/call.js'
import { SPENDERS, type Spender } from '../model/spender.js'
import { DAY, MINUTE } from '../model/time.js'

/** What an alert watches: exactly one of these stands in it. */
export const ALERT_KINDS = ['refusalRate', 'oldestWait', 'budgetSpent', 'budgetPace', 'agent429', 'unchecked', 'unusualTraffic'] as const
export type AlertKind = (typeof ALERT_KINDS)[number]

/** By what budgets and traffic are looked at. */

/** An alert as written in a rules file. */
export interface AlertSpec {
  /** 1 to 64 letters, digits, `.`, `_` or `-`. */
  name: string
  /** The share of calls, 0 to 1, that a rule refuses. */
  refusalRate?: number | undefined
  /** The age of the longest waiting call of a rule: a duration. */
  oldestWait?: string | undefined
  /** The share of a budget that is spent: 0.8, 1. */
  budgetSpent?: number | undefined
  /** true: a budget runs out before its window ends, at the pace of the last days. */
  budgetPace?: true | undefined
  /** Refusals (429 and the like) of an agent. */
  agent429?: number | undefined
  /** Calls that were let in unchecked while Redis was away. */
  unchecked?: number | undefined
  /** How many times its usual day one scope value spends today. */
  unusualTraffic?: number | undefined
  /** The time over which refusals and unchecked calls are counted; default 5m, at most a day. */
  over?: string | undefined
  /** The rules it is about; default all. */
  rules?: string[] | undefined
  /** The agents it is about; default all. */
  agents?: string[] | undefined
  /** By what budgets and traffic are looked at; default org, team, user and model for budgets, org for traffic. */
  by?: Spender | undefined
  /** The webhooks that are told, by name; log and event are told in any case. */
  to?: string[] | undefined
}

/** Where notices of alerts are sent. */
export interface WebhookSpec {
  url: string
  /** The name of the environment variable with the secret that signs what is sent. */
  secretEnv: string
}

/** The alerts of a namespace, and its webhooks. */
export interface AlertPlan {
  readonly list: readonly AlertSpec[]
  readonly webhooks: Readonly<Record<string, WebhookSpec>>
}

export const NO_ALERTS: AlertPlan = Object.freeze({ list: [], webhooks: {} })

export const alertName = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1 to 64 letters, digits, . _ or -')
const names = z.array(z.string().min(1).max(MAX_NAME_LENGTH)).min(1).max(1000)
const durationFrom = (leastMs: number, mostMs: number, what: string) =>
  z.string(what).refine((text) => {
    const ms = periodMs(text)
    return ms !== null && ms >= leastMs && ms <= mostMs
  }, what)

export const alertSchema = z
  .strictObject({
    name: alertName,
    refusalRate: z.number('must be a share from 0 to 1').min(0).max(1).optional(),
    oldestWait: durationFrom(1000, 30 * DAY, 'must be a duration from 1s to 30d').optional(),
    budgetSpent: z.number('must be a share above 0, such as 0.8').positive().max(100).optional(),
    budgetPace: z.literal(true, 'must be true, or be left out').optional(),
    agent429: z.number('must be a number from 1').int().min(1).max(1e9).optional(),
    unchecked: z.number('must be a number from 1').int().min(1).max(1e9).optional(),
    unusualTraffic: z.number('must be a number above 1').min(1.1).max(1000).optional(),
    over: durationFrom(MINUTE, DAY, 'must be a duration from 1m to 1d').optional(),
    rules: names.optional(),
    agents: names.optional(),
    by: z.enum(SPENDERS).optional(),
    to: z.array(alertName).min(1).max(20).optional(),
  })
  .superRefine((alert, refuse) => {
    const kinds = ALERT_KINDS.filter((kind) => alert[kind] !== undefined)
    if (kinds.length !== 1) refuse.addIssue({ code: 'custom', path: [], message: `must have exactly one of ${ALERT_KINDS.join(', ')}` })
  })

export const webhookSchema = z.strictObject({
  url: z
    .url({ protocol: /^https?$/, error: 'must be a https:// URL' })
    .refine((text) => !URL.canParse(text) || (new URL(text).username === '' && new URL(text).hash === ''), 'must be without credentials and fragment'),
  secretEnv: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of an environment variable'),
})
