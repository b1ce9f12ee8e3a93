import { z } from 'zod'
import { type ApiKeySpec, apiKeySchema } from '../../administration/api-keys.js'
import type { Tollgate } from '../../tollgate.js'
import { type Route, route } from '../route.js'
import { idParams } from './schemas.js'

const text = z.string().optional()
const known = z.object({
  id: z.string(),
  org: text,
  team: text,
  user: text,
  agents: z.array(z.string()).optional(),
  createdAt: z.string(),
  until: z.string().nullable(),
  by: z.string(),
  revokedAt: z.string().nullable(),
})

/** API keys of clients that call agents. */
export function keyRoutes(tollgate: Tollgate): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/keys',
      summary: 'The keys that were issued, without the keys themselves',
      access: 'admin',
      answers: { 200: ['Keys', z.array(known)] },
      handle: () => tollgate.keys.list(),
    }),
    route({
      method: 'POST',
      path: '/v1/keys',
      summary: 'Issue a key for a client: it is shown this once',
      access: 'admin',
      body: apiKeySchema,
      bodyIsChecked: true,
      answers: { 201: ['It was issued', known.extend({ key: z.string() })] },
      async handle({ body, by }, reply) {
        const given = body as ApiKeySpec
        return reply.code(201).send(await tollgate.keys.create(by === undefined || given?.by !== undefined ? given : { ...given, by }))
      },
    }),
    route({
      method: 'DELETE',
      path: '/v1/keys/{id}',
      summary: 'Revoke a key, by its id',
      access: 'admin',
      params: idParams,
      answers: { 200: ['Whether it was in force', z.object({ id: z.string(), revoked: z.boolean() })] },
      handle: async ({ params: { id }, by }) => ({ id, revoked: await tollgate.keys.revoke(id, { by }) }),
    }),
  ]
}
