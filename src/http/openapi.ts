import { z } from 'zod'
import type { Route } from './route.js'

/** What an answer that is no success holds; see `Problem`. */
const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  detail: z.string(),
  code: z.string(),
  retryable: z.boolean(),
  todo: z.string(),
  retryAfterMs: z.number().optional(),
  'violated-policies': z.array(z.string()).optional(),
  faults: z.array(z.string()).optional(),
  id: z.string().optional(),
})

/** @param io whether the schema describes what is sent to the server, or what it answers */
function jsonSchema(schema: z.ZodType, io: 'input' | 'output'): Record<string, unknown> {
  const { $schema: _dialect, ...json } = z.toJSONSchema(schema, { io, unrepresentable: 'any', reused: 'inline' })
  return json
}

function parameters(schema: z.ZodType | undefined, place: 'query' | 'path'): unknown[] {
  if (schema === undefined) return []
  const { properties = {}, required = [] } = jsonSchema(schema, 'input') as { properties?: Record<string, unknown>; required?: string[] }
  return Object.entries(properties).map(([name, of]) => ({ name, in: place, required: place === 'path' || required.includes(name), schema: of }))
}

const PROBLEM = { description: 'Why it was refused', content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } } }

function operation({ summary, access, body, query, params, answers, method, path }: Route): unknown {
  const content = (schema: z.ZodType, io: 'input' | 'output') => ({ 'application/json': { schema: jsonSchema(schema, io) } })
  return {
    operationId: `${method.toLowerCase()}${path.replace(/[{}]/g, '').replace(/[/._-]+(\w?)/g, (_, letter: string) => letter.toUpperCase())}`,
    summary,
    ...(access === 'open'
      ? { security: [] }
      : { description: `Needs the key of ${access === 'admin' ? 'an administrator' : 'a producer'}${method === 'GET' ? ', or of a viewer' : ''}.` }),
    parameters: [...parameters(params, 'path'), ...parameters(query, 'query')],
    ...(body === undefined ? {} : { requestBody: { required: true, content: content(body, 'input') } }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, [description, schema = z.unknown()]]) => [
          status,
          { description, ...(schema === null ? {} : { content: content(schema, 'output') }) },
        ]),
      ),
      default: PROBLEM,
    },
  }
}

/** The description of the server in OpenAPI 3.1. */
export function openApi(routes: readonly Route[], version: string): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const one of routes) {
    paths[one.path] ??= {}
    ;(paths[one.path] as Record<string, unknown>)[one.method.toLowerCase()] = operation(one)
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tollgate',
      version,
      description: 'Calls to external agents, within their quotas. /agents/{agent}/* passes requests on to an agent.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{ key: [] }],
    paths,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
      schemas: { Problem: jsonSchema(problemSchema, 'output') },
    },
  }
}
