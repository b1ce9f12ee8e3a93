import { BlockList, isIP, isIPv6 } from 'node:net'
import { z } from 'zod'
import { MAX_AMOUNT, MAX_NAME_LENGTH, STRATEGIES, type Strategy } from '../call.js'
import { DEFAULTS } from '../config/defaults.js'
import { DAY, HOUR, MINUTE, SECOND, WEEK } from '../config/units.js'
import { priceTableSchema } from '../cost/prices.js'

/** What limits can count. */
export const UNITS = ['requests', 'tokens', 'concurrency'] as const
export type Unit = (typeof UNITS)[number]

/** What a rule can count by, besides `keys.<name>`. */
export const SCOPES = ['global', 'agent', 'endpoint', 'model', 'user', 'team', 'org', 'ip'] as const
const CUSTOM_SCOPE = /^keys\.(?!__proto__$)[A-Za-z0-9_-]{1,64}$/

const PERIODS: Readonly<Record<string, number>> = { second: SECOND, minute: MINUTE, hour: HOUR, day: DAY, week: WEEK, month: 30 * DAY }
const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY, w: WEEK }

/** One tier of a rule, as written in a rules file: exactly one of requests, tokens, concurrency. */
export interface LimitSpec {
  /** Keeps the usage through changes; default "<unit>/<per>". */
  name?: string | undefined
  requests?: number | undefined
  tokens?: number | undefined
  concurrency?: number | undefined
  /** second, minute, hour, day, week, month or a duration such as 10s, 15m. */
  per?: string | undefined
  algorithm?: 'token_bucket' | 'fixed_window' | undefined
  /** What a token bucket holds; default its limit. */
  burst?: number | undefined
  /** The burst as a multiple of the limit. */
  burstMultiplier?: number | undefined
  /** Of a concurrency: how long a slot outlives the last sign of life of its worker; default 30s. */
  lease?: string | undefined
}

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
}

/** Milliseconds of a `per`, or null if it is not one. */
export function periodMs(per: string): number | null {
  if (Object.hasOwn(PERIODS, per)) return PERIODS[per] ?? null
  const parts = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/.exec(per)
  const unit = parts?.[2]
  return unit === undefined ? null : Number(parts?.[1]) * (DURATION_UNITS[unit] ?? Number.NaN)
}

const amount = z.number(`must be a number from 0 to ${MAX_AMOUNT}`).min(0).max(MAX_AMOUNT)
const ruleName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be 1 to 64 letters, digits, . _ or -, and begin with a letter or digit')

const per = z.string().superRefine((value, context) => {
  const ms = periodMs(value)
  if (ms === null) context.addIssue({ code: 'custom', message: 'must be second, minute, hour, day, week, month or a duration such as 10s, 15m' })
  else if (ms < DEFAULTS.shortestWindowMs || ms > DEFAULTS.longestWindowMs)
    context.addIssue({ code: 'custom', message: 'must be at least 1ms and at most 366d' })
})

const lease = z.string().refine((value) => {
  const ms = periodMs(value)
  return ms !== null && ms >= DEFAULTS.shortestLeaseMs && ms <= DAY
}, 'must be a duration from 1s to 1d')

const limitSchema = z
  .strictObject({
    name: ruleName.optional(),
    requests: amount.optional(),
    tokens: amount.optional(),
    concurrency: amount.int().optional(),
    per: per.optional(),
    algorithm: z.enum(['token_bucket', 'fixed_window']).optional(),
    burst: amount.optional(),
    burstMultiplier: z.number('must be a number above 0, at most 1000').positive().max(1000).optional(),
    lease: lease.optional(),
  })
  .superRefine((limit, context) => {
    const fault = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    const units = UNITS.filter((unit) => limit[unit] !== undefined)
    if (units.length !== 1) {
      context.addIssue({ code: 'custom', message: `must name exactly one of ${UNITS.join(', ')}; it names ${units.length === 0 ? 'none' : units.join(', ')}` })
      return
    }
    const value = limit[units[0] as Unit] as number
    if (units[0] === 'concurrency') {
      for (const field of ['per', 'algorithm', 'burst', 'burstMultiplier'] as const) {
        if (limit[field] !== undefined) fault(field, 'contradicts concurrency, which counts calls that run at once and has no window')
      }
      return
    }
    if (limit.lease !== undefined) fault('lease', 'is for concurrency only')
    if (limit.per === undefined) fault('per', 'is required: the window of the limit')
    if (limit.burst !== undefined && limit.burstMultiplier !== undefined) fault('burstMultiplier', 'contradicts burst: give one of them')
    if (limit.algorithm === 'fixed_window') {
      for (const field of ['burst', 'burstMultiplier'] as const) {
        if (limit[field] !== undefined) fault(field, 'contradicts fixed_window, which has no burst')
      }
      if (limit.per === 'month') fault('per', 'contradicts fixed_window: months differ in length; use 30d, or a token bucket')
      if (units[0] === 'requests' && value > 0 && value < 1)
        fault('requests', 'must be at least 1 in a fixed_window, or no call could ever pass; to close the limit set it to 0')
    } else if (value > 0 && limit.burst === 0) {
      fault('burst', 'must be above 0: nothing could ever pass; to close the limit set it to 0')
    } else if (units[0] === 'requests' && value > 0 && limit.burst !== undefined && limit.burst < 1) {
      fault('burst', 'must be at least 1, or no call could ever pass; to close the limit set it to 0')
    }
  })

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
    strategy: z.enum(STRATEGIES).optional(),
    priority: z.number('must be a whole number from -1000000 to 1000000').int().min(-1e6).max(1e6).optional(),
    enabled: z.boolean().optional(),
    limits: z.array(limitSchema).min(1).max(32),
  })
  .superRefine((rule, context) => {
    const scopes = [rule.scope].flat()
    if (new Set(scopes).size !== scopes.length) context.addIssue({ code: 'custom', path: ['scope'], message: 'names a scope twice' })
    if (scopes.length > 1 && scopes.includes('global'))
      context.addIssue({ code: 'custom', path: ['scope'], message: 'global cannot be combined with other scopes' })
    const seen = new Map<string, number>()
    rule.limits.forEach((limit, index) => {
      const name = limitName(limit)
      const earlier = seen.get(name)
      if (earlier !== undefined) {
        context.addIssue({ code: 'custom', path: ['limits', index], message: `contradicts limits.${earlier}: both are ${name}; keep one, or give them names` })
      }
      seen.set(name, index)
    })
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
})

export const ruleSetSchema = z
  .strictObject({
    rules: z.array(ruleSchema).max(10_000),
    agents: z.record(z.string().min(1).max(MAX_NAME_LENGTH), agentSchema).optional(),
    prices: priceTableSchema.optional(),
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

/** The name of a limit within its rule, under which its usage is kept. */
export function limitName(limit: LimitSpec): string {
  if (limit.name !== undefined) return limit.name
  const unit = UNITS.find((candidate) => limit[candidate] !== undefined) ?? 'requests'
  return unit === 'concurrency' ? unit : `${unit}/${limit.per ?? ''}`
}

/** An address or CIDR range as a check, or null if it is neither. */
export function parseRange(text: string): ((ip: string) => boolean) | null {
  const [address = '', prefix, more] = text.split('/')
  const version = isIP(address)
  if (version === 0 || more !== undefined) return null
  const family = version === 6 ? 'ipv6' : 'ipv4'
  const list = new BlockList()
  if (prefix === undefined) list.addAddress(address, family)
  else {
    if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > (version === 6 ? 128 : 32)) return null
    list.addSubnet(address, Number(prefix), family)
  }
  return (ip) => list.check(ip, isIPv6(ip) ? 'ipv6' : 'ipv4')
}
