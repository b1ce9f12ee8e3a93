import { z } from 'zod'
import { callsSchema, LISTED_STATES, linesSchema } from '../../gate/waiting.js'
import type { Tollgate } from '../../tollgate.js'
import { type Route, route } from '../route.js'
import { bindingSchema, waitsForSchema } from './schemas.js'

const count = z.coerce.number()
const waits = { binding: bindingSchema.nullable(), waitsFor: waitsForSchema, todo: z.string().nullable() }
const name = z.string().optional()
const listedCall = z.object({
  id: z.string(),
  queue: z.string().nullable(),
  state: z.enum(LISTED_STATES),
  ...{ agent: name, endpoint: name, model: name, user: name, team: name, org: name, ip: name },
  keys: z.record(z.string(), z.string()).optional(),
  priority: z.number().optional(),
  position: z.number().int().nullable(),
  etaMs: z.number().nullable(),
  etaMaxMs: z.number().nullable(),
  waitedMs: z.number().nullable(),
  ...waits,
})
const listedLine = z.object({
  line: z.string(),
  depth: z.number().int(),
  oldestMs: z.number().nullable(),
  head: z.string(),
  headEtaMs: z.number().nullable(),
  headEtaMaxMs: z.number().nullable(),
  lastEtaMs: z.number().nullable(),
  lastEtaMaxMs: z.number().nullable(),
  ...waits,
})
const cursor = z.string().nullable()

/** What waits, and why. */
export function waitingRoutes(tollgate: Tollgate): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/calls',
      summary: 'The calls that have not ended, and what each waits for; a page may be short and have a cursor: go on with that',
      access: 'admin',
      query: callsSchema.extend({
        from: count.pipe(callsSchema.shape.from.unwrap()).optional(),
        limit: count.pipe(callsSchema.shape.limit.unwrap()).optional(),
      }),
      answers: { 200: ['A page of calls', z.object({ calls: z.array(listedCall), cursor })] },
      handle: ({ query }) => tollgate.calls(query),
    }),
    route({
      method: 'GET',
      path: '/v1/lines',
      summary: 'The lines in which calls wait: how many, since when, for what, and when the first goes on',
      access: 'admin',
      query: linesSchema.omit({ names: true }).extend({ limit: count.pipe(linesSchema.shape.limit.unwrap()).optional() }),
      answers: { 200: ['A page of lines', z.object({ lines: z.array(listedLine), cursor })] },
      handle: ({ query }) => tollgate.lines(query),
    }),
  ]
}
