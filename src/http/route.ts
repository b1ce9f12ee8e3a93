import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { RequestInvalid } from '../model/errors.js'
import { checkInput } from '../validation/faults.js'
import type { AccessLevel } from './access.js'
import type { Session } from './session.js'

const nothing = z.unknown()

interface RouteInput<Body extends z.ZodType, Query extends z.ZodType, Params extends z.ZodType> {
  readonly body: z.output<Body>
  readonly query: z.output<Query>
  readonly params: z.output<Params>
  /** The actor for the audit: of the session, else the header X-Tollgate-Actor; undefined where the request has neither. */
  readonly by: string | undefined
}

/** One address of the server: its schemas check requests, type the handler, and describe it in /openapi.json. */
interface RouteSpec<Body extends z.ZodType, Query extends z.ZodType, Params extends z.ZodType> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** As OpenAPI writes it: /v1/calls/{id}. */
  readonly path: string
  readonly summary: string
  readonly access: AccessLevel
  readonly body?: Body
  /** The library checks the body itself, by the same schema. */
  readonly bodyIsChecked?: true
  readonly query?: Query
  readonly params?: Params
  /** By status; the content is JSON unless it is null. */
  readonly answers: Readonly<Record<number, readonly [what: string, content?: z.ZodType | null]>>
  readonly handle: (input: RouteInput<Body, Query, Params>, reply: FastifyReply, request: FastifyRequest) => unknown
}

export type Route = RouteSpec<z.ZodType, z.ZodType, z.ZodType>

export function route<Body extends z.ZodType = typeof nothing, Query extends z.ZodType = typeof nothing, Params extends z.ZodType = typeof nothing>(
  spec: RouteSpec<Body, Query, Params>,
): Route {
  return spec as unknown as Route
}

/** Checks a request by the schemas of its route, and handles it. @throws RequestInvalid naming field, value and bound */
export function handleRoute(
  { body, bodyIsChecked, query, params, handle }: Route,
  request: FastifyRequest,
  reply: FastifyReply,
  session: Session | undefined,
): unknown {
  const checked = (schema: z.ZodType | undefined, input: unknown, whole: string) =>
    schema === undefined ? undefined : checkInput(schema, input ?? {}, { whole }, RequestInvalid)
  const actor = request.headers['x-tollgate-actor']
  const input = {
    body: bodyIsChecked === true ? request.body : checked(body, request.body, 'body'),
    query: checked(query, request.query, 'query'),
    params: checked(params, request.params, 'path'),
    by: session?.by ?? (typeof actor === 'string' ? actor : undefined),
  }
  return handle(input, reply, request)
}
