import { z } from 'zod'
import { auditSchema } from '../../administration/audit.js'
import { type GrantSpec, grantSchema } from '../../administration/grant.js'
import { pausedSubject } from '../../administration/pauses.js'
import { RequestInvalid, TollgateError } from '../../model/errors.js'
import { defaultEndpoints, type RuleSpec, ruleSchema, ruleSetSchema } from '../../policy/rule.js'
import { withRuleDefaults } from '../../policy/rule-defaults.js'
import type { Tollgate } from '../../tollgate.js'
import { announceSchema } from '../../upstream/capacities.js'
import { freeText } from '../../validation/requests.js'
import { type Route, route } from '../route.js'
import { idParams, nameParams } from './schemas.js'

const done = z.object({ name: z.string() })
const access = 'admin'

function known<T>(rule: T | null, name: string): T {
  if (rule === null) throw new TollgateError('RULE_UNKNOWN', `no rule is called ${JSON.stringify(name)}`)
  return rule
}

function ruleRoutes({ rules }: Tollgate): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/rules',
      summary: 'The rules in force',
      access,
      answers: { 200: ['The rules', z.array(ruleSchema)] },
      handle: () => rules.list(),
    }),
    route({
      method: 'PUT',
      path: '/v1/rules',
      summary: 'Declare the rules of the namespace, in the form of a rules file: they replace the declared ones, usage is kept',
      access,
      body: z.preprocess(withRuleDefaults, ruleSetSchema),
      answers: { 200: ['The rules in force', z.array(ruleSchema)] },
      async handle({ body, by }) {
        const degradeTo = Object.fromEntries(
          Object.entries(body.agents ?? {}).flatMap(([agent, { degradeTo: model }]) => (model === undefined ? [] : [[agent, model]])),
        )
        await rules.apply(body.rules as RuleSpec[], body.prices, { by, exempt: body.exempt, degradeTo, endpoints: defaultEndpoints(body.agents ?? {}) })
        return rules.list()
      },
    }),
    route({
      method: 'POST',
      path: '/v1/rules',
      summary: 'Add a rule beside the declared ones',
      access,
      body: ruleSchema,
      bodyIsChecked: true,
      answers: { 201: ['It was added', done] },
      async handle({ body, by }, reply) {
        if (body === null || typeof body !== 'object') throw new RequestInvalid('body: must be a rule')
        await rules.add(body as RuleSpec, { by })
        return reply.code(201).send({ name: (body as RuleSpec).name })
      },
    }),
    route({
      method: 'GET',
      path: '/v1/rules/{name}',
      summary: 'A rule',
      access,
      params: nameParams,
      answers: { 200: ['The rule', ruleSchema] },
      handle: ({ params: { name } }) => known(rules.get(name), name),
    }),
    route({
      method: 'PATCH',
      path: '/v1/rules/{name}',
      summary: 'Change fields of a rule',
      access,
      params: nameParams,
      body: z.record(z.string(), z.unknown()),
      answers: { 200: ['The rule as it is now', ruleSchema] },
      async handle({ params: { name }, body, by }) {
        await rules.update(name, body as Partial<RuleSpec>, { by })
        return known(rules.get(name), name)
      },
    }),
    route({
      method: 'DELETE',
      path: '/v1/rules/{name}',
      summary: 'Remove a rule; a declared one comes back with the next declaration',
      access,
      params: nameParams,
      answers: { 200: ['Whether it was there', done.extend({ removed: z.boolean() })] },
      handle: async ({ params: { name }, by }) => ({ name, removed: await rules.remove(name, { by }) }),
    }),
  ]
}

function overrideRoutes({ overrides }: Tollgate): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/overrides',
      summary: 'The overrides in force',
      access,
      answers: { 200: ['The overrides', z.array(z.unknown())] },
      handle: () => overrides.list(),
    }),
    route({
      method: 'POST',
      path: '/v1/overrides',
      summary: 'Grant an override',
      access,
      body: grantSchema,
      bodyIsChecked: true,
      answers: { 201: ['It was granted', z.object({ id: z.string(), until: z.string().optional() })] },
      async handle({ body, by }, reply) {
        const given = body as GrantSpec
        const id = await overrides.grant(by === undefined || given?.by !== undefined ? given : { ...given, by })
        return reply.code(201).send({ id, until: overrides.list().find((one) => one.id === id)?.until })
      },
    }),
    route({
      method: 'DELETE',
      path: '/v1/overrides/{id}',
      summary: 'End an override now',
      access,
      params: idParams,
      answers: { 200: ['Whether it was in force', z.object({ id: z.string(), revoked: z.boolean() })] },
      handle: async ({ params: { id }, by }) => ({ id, revoked: await overrides.revoke(id, { by }) }),
    }),
    route({
      method: 'GET',
      path: '/v1/audit',
      summary: 'What was changed, by whom and when, the newest first',
      access,
      query: auditSchema.extend({ since: z.string().optional(), until: z.string().optional(), limit: z.coerce.number().int().min(1).max(10_000).optional() }),
      answers: {
        200: [
          'Entries',
          z.array(z.object({ id: z.string(), at: z.string(), by: z.string(), what: z.string(), subject: z.string(), before: z.unknown(), after: z.unknown() })),
        ],
      },
      handle: ({ query }) => overrides.audit(query),
    }),
  ]
}

function pauseRoutes(tollgate: Tollgate): Route[] {
  const changed = z.object({ for: pausedSubject, changed: z.boolean() })
  return [
    route({
      method: 'GET',
      path: '/v1/pauses',
      summary: 'The pauses in force',
      access,
      answers: { 200: ['The pauses', z.array(z.unknown())] },
      handle: () => tollgate.paused(),
    }),
    route({
      method: 'POST',
      path: '/v1/pauses',
      summary: 'Keep the calls of an agent, user, team, org or rule where they are',
      access,
      body: z.strictObject({ for: pausedSubject, reason: freeText.optional() }),
      answers: { 200: ['Whether they were not paused before', changed] },
      handle: async ({ body, by }) => ({ for: body.for, changed: await tollgate.pause(body.for, { by, reason: body.reason }) }),
    }),
    route({
      method: 'DELETE',
      path: '/v1/pauses',
      summary: 'Resume paused calls',
      access,
      query: pausedSubject,
      answers: { 200: ['Whether they were paused', changed] },
      handle: async ({ query, by }) => ({ for: query, changed: await tollgate.resume(query, { by }) }),
    }),
  ]
}

function capacityRoutes(tollgate: Tollgate): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/capacity',
      summary: 'The agents that were reported on: their state, and their limits as configured and as observed',
      access,
      answers: { 200: ['Agents', z.array(z.unknown())] },
      handle: () => tollgate.capacity.stats(),
    }),
    route({
      method: 'POST',
      path: '/v1/capacity',
      summary: 'Tell what is known of an agent: that it refused a call, or its limits',
      access,
      body: announceSchema,
      bodyIsChecked: true,
      answers: { 200: ['Its state after that', z.unknown()] },
      handle: ({ body }) => tollgate.capacity.announce(body as Parameters<Tollgate['capacity']['announce']>[0]),
    }),
    route({
      method: 'GET',
      path: '/v1/capacity/{name}',
      summary: 'The capacity that was set for an agent, and what is left of it; null where none was set',
      access,
      params: nameParams,
      answers: { 200: ['The capacity', z.object({ limit: z.number(), per: z.string(), available: z.number(), inFlight: z.number() }).nullable()] },
      handle: async ({ params: { name } }, reply) => reply.type('application/json').send(JSON.stringify(await tollgate.capacity.get(name))),
    }),
    route({
      method: 'PUT',
      path: '/v1/capacity/{name}',
      summary: 'Set the capacity of an agent: requests per window; null takes it away',
      access,
      params: nameParams,
      body: z.strictObject({ limit: z.number().nullable(), per: z.string().optional() }),
      answers: { 200: ['It was set', done] },
      async handle({ params: { name }, body: { limit, per }, by }) {
        await tollgate.setCapacity(name, limit, per, { by })
        return { name }
      },
    }),
  ]
}

/** What an administrator may see and change. */
export function policyRoutes(tollgate: Tollgate): Route[] {
  return [...ruleRoutes(tollgate), ...overrideRoutes(tollgate), ...pauseRoutes(tollgate), ...capacityRoutes(tollgate)]
}
