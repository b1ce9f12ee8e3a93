import { z } from 'zod'
import { historySchema, limitedBySchema } from '../../history/reader.js'
import { spendSchema } from '../../history/spend.js'
import { HEALTH_REASONS, type HealthReason } from '../../model/health-reason.js'
import type { Tollgate } from '../../tollgate.js'
import { callName } from '../../validation/call.js'
import { type Route, route } from '../route.js'
import { idParams, nameParams } from './schemas.js'

const access = 'admin'
const count = z.number()
const known = count.nullable()
const text = z.string()

const reason = z.enum(Object.keys(HEALTH_REASONS) as [HealthReason, ...HealthReason[]])
const figures = { waiting: known, oldestMs: known, running: known, places: known, workers: known, arrivingPerSecond: known, startingPerSecond: known }
const about = { rule: text, limit: text, scopeValue: text, agent: text, queue: text, call: text, org: text }
const healthSchema = z.object({
  state: z.enum(['flowing', 'slowed', 'stopped', 'unknown']),
  reason,
  sinceMs: known,
  sentence: text,
  whom: text,
  why: text,
  next: z.object({ text, command: text }),
  of: z.object(Object.fromEntries(Object.keys(about).map((field) => [field, text.nullable()]))),
  also: z.array(z.object({ reason, sentence: text, sinceMs: known })),
  figures: z.object({ ...figures, dispatched: z.boolean().nullable() }),
  asOfMs: count,
})

const counts = ['atMs', 'arrived', 'started', 'waitingMs', 'done', 'failed', 'refused', 'expired', 'limited429', 'estimatedTokens', 'tokens', 'usd'] as const
const pointSchema = z.object({
  ...Object.fromEntries(counts.map((name) => [name, count])),
  ...{ depth: known, deepest: known, oldestMs: known, waitP50Ms: known, waitP95Ms: known },
})
const points = [200, ['Points, in order', z.array(pointSchema)]] as const
const who = z.array(z.object({ org: text, calls: count }))
const lineSchema = z.object({ rule: text, scopeValue: text, limit: text.nullable(), depth: count, oldestMs: known, sinceMs: count, who })
const statsSchema = z.object({
  rule: text,
  sinceMs: count,
  checks: count,
  exceeded: count,
  exceededByLimit: z.record(text, count),
  hitRate: count,
  averageRemaining: z.record(text, count),
  storeErrors: count,
  unchecked: count,
  checkMeanMs: known,
  checkP95Ms: known,
})
const violation = z.array(z.object({ name: text, count, atMost: count }))

const asNumber = z.coerce.number()
const span = historySchema.extend({
  fromMs: asNumber.pipe(historySchema.shape.fromMs.unwrap()).optional(),
  toMs: asNumber.pipe(historySchema.shape.toMs.unwrap()).optional(),
})

/** Whether work flows, and what happened. */
export function healthRoutes(tollgate: Tollgate): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/health',
      summary: 'Whether work flows; if not, what holds it up, since when, whom it hurts, and what to do. That Redis is away is an answer, too',
      access,
      answers: { 200: ['The verdict', healthSchema] },
      handle: () => tollgate.health(),
    }),
    route({
      method: 'GET',
      path: '/v1/history',
      summary: 'What happened in the namespace, by the minute or the hour',
      access,
      query: span,
      answers: { [points[0]]: points[1] },
      handle: ({ query }) => tollgate.history.namespace(query),
    }),
    route({
      method: 'GET',
      path: '/v1/history/rules/{name}',
      summary: 'What happened to the calls of a rule',
      access,
      params: nameParams,
      query: span,
      answers: { [points[0]]: points[1] },
      handle: ({ params, query }) => tollgate.history.rule(params.name, query),
    }),
    route({
      method: 'GET',
      path: '/v1/history/agents/{name}',
      summary: 'What happened to the calls to an agent',
      access,
      params: nameParams,
      query: span,
      answers: { [points[0]]: points[1] },
      handle: ({ params, query }) => tollgate.history.agent(params.name, query),
    }),
    route({
      method: 'GET',
      path: '/v1/history/lines',
      summary: 'What happened in a line, by its rule and scope value; of the lines with the most waiting',
      access,
      query: span.extend({ rule: callName, value: callName.max(2048) }),
      answers: { [points[0]]: points[1] },
      handle: ({ query: { rule, value, ...query } }) => tollgate.history.line(`${rule}/${value}`, query),
    }),
    route({
      method: 'GET',
      path: '/v1/history/known',
      summary: 'The rules, agents and lines that have a history',
      access,
      answers: { 200: ['Names', z.object({ rules: z.array(text), agents: z.array(text), lines: z.array(text) })] },
      handle: () => tollgate.history.known(),
    }),
    route({
      method: 'GET',
      path: '/v1/history/limited-by',
      summary: 'Which limits hold calls up, by their share of the waiting time',
      access,
      query: limitedBySchema.extend({ overMs: asNumber.pipe(limitedBySchema.shape.overMs.unwrap()).optional() }),
      answers: {
        200: [
          'Limits, that with the largest share first',
          z.array(
            z.object({
              rule: text,
              limit: text,
              scopeValue: text.nullable(),
              share: count,
              waitingMs: count,
              calls: count,
              sinceMs: known,
              shared: z.boolean(),
              who,
            }),
          ),
        ],
      },
      handle: ({ query }) => tollgate.history.limitedBy(query),
    }),
    route({
      method: 'GET',
      path: '/v1/history/now',
      summary: 'The deepest lines, as the dispatcher saw them last; null where it has not looked within a minute',
      access,
      answers: { 200: ['Lines', z.object({ atMs: count, waiting: count, lineCount: count, lines: z.array(lineSchema) }).nullable()] },
      handle: async (_input, reply) => reply.type('application/json').send(JSON.stringify(await tollgate.history.now())),
    }),
    route({
      method: 'GET',
      path: '/v1/history/spend',
      summary: 'What orgs, teams, users or models spend, their budgets, and when these run out',
      access,
      query: spendSchema.extend({ limit: asNumber.pipe(spendSchema.shape.limit.unwrap()).optional() }),
      answers: { 200: ['Top spenders of this month', z.array(z.unknown())] },
      handle: ({ query }) => tollgate.history.spend(query),
    }),
    route({
      method: 'GET',
      path: '/v1/calls/{id}/history',
      summary: 'What a call went through: events, its limits at its start, estimate and actual cost',
      access,
      params: idParams,
      answers: { 200: ['Its life', z.unknown()] },
      handle: ({ params: { id } }) => tollgate.history.call(id),
    }),
    route({
      method: 'GET',
      path: '/v1/stats/rules',
      summary: 'What every rule has decided since the last reset',
      access,
      answers: { 200: ['Figures by rule', z.array(statsSchema)] },
      handle: () => tollgate.stats.all(),
    }),
    route({
      method: 'GET',
      path: '/v1/stats/rules/{name}',
      summary: 'What a rule has decided since the last reset',
      access,
      params: nameParams,
      answers: { 200: ['Figures', statsSchema] },
      handle: ({ params: { name } }) => tollgate.stats.rule(name),
    }),
    route({
      method: 'POST',
      path: '/v1/stats/reset',
      summary: 'Forget what rules have decided, and the violations; the history stays',
      access,
      answers: { 200: ['It was forgotten', z.object({ reset: z.boolean() })] },
      async handle() {
        await tollgate.stats.reset()
        return { reset: true }
      },
    }),
    route({
      method: 'GET',
      path: '/v1/stats/violations',
      summary: 'The users, addresses and endpoints whose calls found no room most often',
      access,
      answers: { 200: ['The most frequent first', z.object({ user: violation, ip: violation, endpoint: violation })] },
      handle: () => tollgate.stats.violations(),
    }),
  ]
}
