import { z } from 'zod'
import { type LimitSpec, limitName, limitSchema, MOST_LIMITS, ruleName } from '../limits/limit.js'
import { MAX_NAME_LENGTH, type Strategy } from '../model/call.js'
import { DEFAULTS } from '../model/defaults.js'
import { priceTableSchema } from '../pricing/prices.js'
import { strategySchema, waitMs } from '../validation/call.js'
import { parseRange } from '../validation/patterns.js'

/** What a rule can count by, besides `keys.<name>`. */
export const SCOPES = ['global', 'agent', 'endpoint', 'model', 'user', 'team', 'org', 'ip'] as const
const CUSTOM_SCOPE = /^keys\.(?!__proto__$)[A-Za-z0-9_-]{1,64}$/

/** What is answered to a call while Redis is away, from the strictest: refused, metered in each process's memory, let in. */
export const ON_STORE_ERROR = ['closed', 'local', 'open'] as const
export type OnStoreError = (typeof ON_STORE_ERROR)[number]

/** A named policy, as written in a rules file. */
export interface RuleSpec {
  name: string
  scope: string | string[]
  match?: MatchSpec | undefined
  /** Default queue. */
  strategy?: Strategy | undefined
  /** Of several rules that refuse a call the one with the highest priority decides; default 0. */
  priority?: number | undefined
  /** Default true. */
  enabled?: boolean | undefined
  /** How long a call may wait in this rule's lines, in ms; default: for as long as it takes. */
  maxWaitMs?: number | undefined
  /** How many calls may wait in a line of this rule, per scope value; default: any number. Whoever finds it full is refused. */
  maxWaiting?: number | undefined
  /** Of throttle: how long a call is held in its worker rather than in line, in ms; default 250. */
  holdMs?: number | undefined
  /** Of throttle: by how much a call is slowed at most, in ms; default: by any time. Beyond it is refused. */
  maxDelayMs?: number | undefined
  /** Of graceful: how many calls may run in degraded mode. Required there. */
  degraded?: LimitSpec[] | undefined
  /** What is answered to the calls it covers while Redis is away; default: the option of that name. */
  onStoreError?: OnStoreError | undefined
  limits: LimitSpec[]
}

/** Which calls a rule covers; every list that is given must match. Globs: * and ?. */
export interface MatchSpec {
  agents?: string[] | undefined
  endpoints?: string[] | undefined
  models?: string[] | undefined
  users?: string[] | undefined
  teams?: string[] | undefined
  orgs?: string[] | undefined
  /** Addresses or CIDR ranges. */
  ips?: string[] | undefined
}

/** How to reach an agent over HTTP. */
export interface AgentSpec {
  baseUrl: string
  /** The environment variable that holds the key; sent as a bearer token, or as x-api-key to Anthropic. */
  apiKeyEnv?: string | undefined
  /** Which API it speaks; default openai. */
  api?: 'openai' | 'anthropic' | undefined
  /** The model that calls run with in degraded mode. */
  degradeTo?: string | undefined
}

const glob = z.string().min(1).max(MAX_NAME_LENGTH)
const globs = z.array(glob).min(1).max(1000).optional()
const range = z.string().refine((value) => parseRange(value) !== null, 'must be an IP address or a CIDR range such as 10.0.0.0/8')

const scope = z
  .string()
  .refine((value) => (SCOPES as readonly string[]).includes(value) || CUSTOM_SCOPE.test(value), `must be one of ${SCOPES.join(', ')} or keys.<name>`)

const ruleSchema = z
  .strictObject({
    name: ruleName,
    scope: z.union([scope, z.array(scope).min(1).max(8)], 'must be a scope or a list of 1 to 8 scopes'),
    match: z
      .strictObject({
        agents: globs,
        endpoints: globs,
        models: globs,
        users: globs,
        teams: globs,
        orgs: globs,
        ips: z.array(range).min(1).max(1000).optional(),
      })
      .optional(),
    strategy: strategySchema.optional(),
    maxWaitMs: waitMs.optional(),
    maxWaiting: z.number('must be a whole number from 1 to 1000000000').int().min(1).max(1e9).optional(),
    holdMs: z.number(`must be a number of ms from 0 to ${DEFAULTS.holdMaxMs}`).min(0).max(DEFAULTS.holdMaxMs).optional(),
    maxDelayMs: waitMs.optional(),
    degraded: z.array(limitSchema).min(1).max(MOST_LIMITS).optional(),
    priority: z.number('must be a whole number from -1000000 to 1000000').int().min(-1e6).max(1e6).optional(),
    enabled: z.boolean().optional(),
    onStoreError: z.enum(ON_STORE_ERROR).optional(),
    limits: z.array(limitSchema).min(1).max(MOST_LIMITS),
  })
  .superRefine((rule, context) => {
    const scopes = [rule.scope].flat()
    if (new Set(scopes).size !== scopes.length) context.addIssue({ code: 'custom', path: ['scope'], message: 'names a scope twice' })
    if (scopes.length > 1 && scopes.includes('global'))
      context.addIssue({ code: 'custom', path: ['scope'], message: 'global cannot be combined with other scopes' })
    for (const list of ['limits', 'degraded'] as const) {
      const seen = new Map<string, number>()
      rule[list]?.forEach((limit, index) => {
        const name = limitName(limit)
        const earlier = seen.get(name)
        if (earlier !== undefined) {
          context.addIssue({ code: 'custom', path: [list, index], message: `contradicts ${list}.${earlier}: both are ${name}; keep one, or give them names` })
        }
        seen.set(name, index)
      })
    }
    if (rule.strategy === 'graceful' && rule.degraded === undefined)
      context.addIssue({ code: 'custom', path: ['degraded'], message: 'is required by graceful: the limits of what may run in degraded mode' })
    if (rule.degraded?.some((limit) => limit.concurrency !== undefined))
      context.addIssue({ code: 'custom', path: ['degraded'], message: 'has a concurrency limit; what may run in degraded mode is limited by a window' })
    for (const field of ['holdMs', 'maxDelayMs'] as const)
      if (rule[field] !== undefined && rule.strategy !== 'throttle') context.addIssue({ code: 'custom', path: [field], message: 'is for throttle only' })
    if (rule.limits.filter((limit) => limit.concurrency !== undefined).length > 1) {
      context.addIssue({ code: 'custom', path: ['limits'], message: 'has two concurrency limits; the lower one would always decide' })
    }
  })

function isPlainUrl(text: string): boolean {
  if (!URL.canParse(text)) return true
  const { username, password, search, hash } = new URL(text)
  return username === '' && password === '' && search === '' && hash === ''
}

const agentSchema = z.strictObject({
  baseUrl: z
    .url({ protocol: /^https?$/, error: 'must be a http:// or https:// URL' })
    .refine(isPlainUrl, 'must be without credentials, query and fragment: keys come from apiKeyEnv'),
  apiKeyEnv: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of an environment variable')
    .optional(),
  api: z.enum(['openai', 'anthropic']).optional(),
  degradeTo: z.string().min(1).max(MAX_NAME_LENGTH).optional(),
})

const ranges = z.array(range).min(1).max(1000).optional()

/** The permanent lists of who is unlimited. */
const exemptSchema = z.strictObject({ users: globs, teams: globs, orgs: globs, agents: globs, ips: ranges })

export const ruleSetSchema = z
  .strictObject({
    rules: z.array(ruleSchema).max(10_000),
    agents: z.record(z.string().min(1).max(MAX_NAME_LENGTH), agentSchema).optional(),
    prices: priceTableSchema.optional(),
    exempt: exemptSchema.optional(),
  })
  .superRefine((set, context) => {
    const seen = new Map<string, number>()
    set.rules.forEach((rule, index) => {
      const earlier = seen.get(rule.name)
      if (earlier !== undefined)
        context.addIssue({ code: 'custom', path: ['rules', index, 'name'], message: `is taken by rules.${earlier}; names must differ` })
      seen.set(rule.name, index)
    })
  })
