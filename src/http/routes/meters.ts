import { z } from 'zod'
import { liftSchema, meterSchema, resetSchema } from '../../administration/meters.js'
import type { Tollgate } from '../../tollgate.js'
import { callName } from '../../validation/call.js'
import { type Route, route } from '../route.js'
import { nameParams, usageSchema } from './schemas.js'

const access = 'admin'

/** What limits have counted, and blocks of agents. */
export function meterRoutes(tollgate: Tollgate): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/meters/{name}',
      summary: 'The usage of the limits of a rule for one scope value; without a value, for the scope global',
      access,
      params: nameParams,
      query: z.strictObject({ value: callName.max(2048).optional() }),
      answers: { 200: ['Usage of its limits', z.array(usageSchema)] },
      handle: ({ params: { name }, query: { value } }) => tollgate.meters.get({ rule: name, value }),
    }),
    route({
      method: 'POST',
      path: '/v1/meters/reset',
      summary: 'Forget what the limits of a rule have counted for one scope value',
      access,
      body: resetSchema,
      bodyIsChecked: true,
      answers: { 200: ['It was forgotten', meterSchema] },
      async handle({ body, by }) {
        const given = body as Parameters<Tollgate['meters']['reset']>[0]
        await tollgate.meters.reset({ by, ...given })
        return { rule: given.rule, value: given.value ?? '*' }
      },
    }),
    route({
      method: 'POST',
      path: '/v1/meters/lift',
      summary: 'Lift the block of an agent, endpoint and model',
      access,
      body: liftSchema,
      bodyIsChecked: true,
      answers: { 200: ['Whether it was blocked, or its capacity cut', z.object({ lifted: z.boolean() })] },
      handle: async ({ body, by }) => ({ lifted: await tollgate.meters.lift({ by, ...(body as Parameters<Tollgate['meters']['lift']>[0]) }) }),
    }),
  ]
}
