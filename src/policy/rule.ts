import { z } from 'zod'
import { type LimitSpec, limitName, limitSchema, MOST_LIMITS, ruleName } from '../limits/limit.js'
import { MAX_NAME_LENGTH, type Strategy } from '../model/call.js'
import { DEFAULTS } from '../model/defaults.js'
import { DAY } from '../model/time.js'
import { priceTableSchema } from '../pricing/prices.js'
import { parseRange } from '../validation/address.js'
import { strategySchema, waitMs } from '../validation/call.js'
import { alertName, alertSchema, webhookSchema } from './alert.js'
import type { Exempt } from './override.js'
import { ruleDefaultsSchema } from './rule-defaults.js'

/** The scopes that a rule can count by, besides `keys.<name>`. */
export const SCOPES = ['global', 'agent', 'endpoint', 'model', 'user', 'team', 'org', 'ip'] as const
const KEY_NAME = /^(?!__proto__$)[A-Za-z0-9_-]{1,64}$/

/**
 * What happens to a call while Redis is away, from the strictest.
 * - closed: it is refused.
 * - local: each process counts its share of the limits in its own memory.
 * - open: it passes unchecked.
 */
export const ON_STORE_ERROR = ['closed', 'local', 'open'] as const
export type OnStoreError = (typeof ON_STORE_ERROR)[number]

/** A rule as written in a rules file. */
export interface RuleSpec {
  /** 1 to 64 letters, digits, `.`, `_` or `-`. The usage is stored under it. */
  name: string
  /** What the rule counts by: global, agent, endpoint, model, user, team, org, ip, keys.<name>, or a list of up to 8 of them. */
  scope: string | string[]
  /** Of a rule that counts by ip: how many bits the IPv6 addresses share that are counted together, 1 to 128; default 64. */
  ipv6Prefix?: number | undefined
  /** Fields that a call must have, as in `scope`, without global. A call that the match covers and that lacks one is refused. */
  requires?: string[] | undefined
  /** The calls that the rule covers; default: all that have the fields of its scope. */
  match?: MatchSpec | undefined
  /** Default queue. */
  strategy?: Strategy | undefined
  /** Where several rules refuse a call, the one with the highest priority decides what happens to it. A whole number up to ±1000000; default 0. */
  priority?: number | undefined
  /** Default true. A disabled rule covers no call; its usage is kept. */
  enabled?: boolean | undefined
  /** The longest wait of a call in this rule's lines, in ms from 1 to a year; default: no bound. */
  maxWaitMs?: number | undefined
  /** The most calls that wait in a line of this rule, per scope value; default: no bound. A call that finds the line full is refused. */
  maxWaiting?: number | undefined
  /** Only for throttle: the longest delay that a call spends in its worker rather than in a line, in ms from 0 to 2000; default 250. */
  holdMs?: number | undefined
  /** Only for throttle: the longest delay, in ms; a call that would be delayed by more is refused. Default: no bound. */
  maxDelayMs?: number | undefined
  /** The limits of calls in degraded mode. Required by graceful. */
  degraded?: LimitSpec[] | undefined
  /** What happens to the calls of this rule while Redis is away; default: the option `onStoreError`. */
  onStoreError?: OnStoreError | undefined
  /** 1 to 32 limits. A call starts only where all of them have room. */
  limits: LimitSpec[]
}

/** Which calls a rule covers: each list that is given must contain the call's value. Names may be globs (* and ?), as in `Exempt`. */
export interface MatchSpec extends Exempt {
  endpoints?: string[] | undefined
  models?: string[] | undefined
  /** Values of the call's `keys`, by their names. */
  keys?: Record<string, string[]> | undefined
}

/** How to reach an agent over HTTP. */
export interface AgentSpec {
  baseUrl: string
  /** The name of the environment variable with the API key. The key is sent as a bearer token, or as x-api-key to Anthropic. */
  apiKeyEnv?: string | undefined
  /** The form of its API; default openai. */
  api?: 'openai' | 'anthropic' | undefined
  /** The model that calls in degraded mode run with; default: the call's own. */
  degradeTo?: string | undefined
  /** How long a client of the pass-through waits for the start of its call that does not say so itself, in ms; default: the server's `patienceMs`. */
  patienceMs?: number | undefined
}

const DEFAULT_ENDPOINTS: Readonly<Record<NonNullable<AgentSpec['api']>, string>> = { openai: '/v1/chat/completions', anthropic: '/v1/messages' }

/** By agent, the endpoint of calls that name none. */
export function defaultEndpoints(agents: Readonly<Record<string, AgentSpec>>): Record<string, string> {
  return Object.fromEntries(Object.entries(agents).map(([name, { api }]) => [name, DEFAULT_ENDPOINTS[api ?? 'openai']]))
}

export const glob = z.string().min(1).max(MAX_NAME_LENGTH)
export const range = z.string().refine((value) => parseRange(value) !== null, 'must be an IP address or a CIDR range such as 10.0.0.0/8')
const globs = z.array(glob).min(1).max(1000).optional()
const ranges = z.array(range).min(1).max(1000).optional()

const isKeyScope = (value: string) => value.startsWith('keys.') && KEY_NAME.test(value.slice('keys.'.length))
const scope = z
  .string()
  .refine((value) => (SCOPES as readonly string[]).includes(value) || isKeyScope(value), `must be one of ${SCOPES.join(', ')} or keys.<name>`)
const keyGlobs = z.record(z.string().regex(KEY_NAME, 'must have 1 to 64 letters, digits, _ or -'), z.array(glob).min(1).max(1000)).optional()

/** The names that stand in a list before, with the place of each and of the one before it. */
export function twins(names: readonly string[]): { name: string; index: number; earlier: number }[] {
  const last = new Map<string, number>()
  return names.flatMap((name, index) => {
    const earlier = last.get(name)
    last.set(name, index)
    return earlier === undefined ? [] : [{ name, index, earlier }]
  })
}

export const ruleSchema = z
  .strictObject({
    name: ruleName,
    scope: z.union([scope, z.array(scope).min(1).max(8)], 'must be a scope or a list of 1 to 8 scopes'),
    match: z.strictObject({ agents: globs, endpoints: globs, models: globs, users: globs, teams: globs, orgs: globs, ips: ranges, keys: keyGlobs }).optional(),
    ipv6Prefix: z.number('must be a whole number from 1 to 128').int().min(1).max(128).optional(),
    requires: z.array(scope).min(1).max(8).optional(),
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
    const fault = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message })
    const isConcurrency = ({ concurrency }: LimitSpec) => concurrency !== undefined
    const scopes = [rule.scope].flat()
    if (new Set(scopes).size !== scopes.length) fault(['scope'], 'names a scope twice')
    if (scopes.length > 1 && scopes.includes('global')) fault(['scope'], 'global cannot be combined with other scopes')
    if (rule.ipv6Prefix !== undefined && !scopes.includes('ip')) fault(['ipv6Prefix'], 'is for rules that count by ip')
    if (rule.requires?.includes('global')) fault(['requires'], 'names global, which no call lacks')
    for (const list of ['limits', 'degraded'] as const)
      for (const { name, index, earlier } of twins((rule[list] ?? []).map(limitName)))
        fault([list, index], `contradicts ${list}.${earlier}: both are ${name}; keep one, or give them names`)
    if (rule.strategy === 'graceful' && rule.degraded === undefined) fault(['degraded'], 'is required by graceful: the limits of what may run in degraded mode')
    if (rule.degraded?.some(isConcurrency)) fault(['degraded'], 'has a concurrency limit; what may run in degraded mode is limited by a window')
    for (const field of ['holdMs', 'maxDelayMs'] as const) if (rule[field] !== undefined && rule.strategy !== 'throttle') fault([field], 'is for throttle only')
    if (rule.limits.filter(isConcurrency).length > 1) fault(['limits'], 'has two concurrency limits; the lower one would always decide')
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
  patienceMs: z.number().int().min(1).max(DAY).optional(),
})

export const ruleSetSchema = z
  .strictObject({
    defaults: ruleDefaultsSchema.optional(),
    rules: z.array(ruleSchema).max(10_000),
    agents: z.record(z.string().min(1).max(MAX_NAME_LENGTH), agentSchema).optional(),
    prices: priceTableSchema.optional(),
    alerts: z.array(alertSchema).max(200).optional(),
    webhooks: z.record(alertName, webhookSchema).optional(),
    exempt: z.strictObject({ users: globs, teams: globs, orgs: globs, agents: globs, ips: ranges }).optional(),
  })
  .superRefine((set, context) => {
    for (const { index, earlier } of twins(set.rules.map(({ name }) => name)))
      context.addIssue({ code: 'custom', path: ['rules', index, 'name'], message: `is taken by rules.${earlier}; names must differ` })
    const alerts = set.alerts ?? []
    for (const { index, earlier } of twins(alerts.map(({ name }) => name)))
      context.addIssue({ code: 'custom', path: ['alerts', index, 'name'], message: `is taken by alerts.${earlier}; names must differ` })
    for (const [index, { to = [] }] of alerts.entries())
      for (const [n, name] of to.entries())
        if (!Object.hasOwn(set.webhooks ?? {}, name))
          context.addIssue({ code: 'custom', path: ['alerts', index, 'to', n], message: 'must be the name of one of the webhooks' })
  })
