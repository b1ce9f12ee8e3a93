import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { problemOf, retryAfterSeconds } from '../../middleware/problem.js'
import { rateLimitFields } from '../../middleware/rate-limit-fields.js'
import type { Call } from '../../model/call.js'
import { RequestInvalid, TollgateError } from '../../model/errors.js'
import { SECOND } from '../../model/time.js'
import type { Ticket } from '../../queue/ticket.js'
import type { Tollgate } from '../../tollgate.js'
import { callSchema } from '../../validation/call.js'
import { faultMessage, show } from '../../validation/faults.js'
import { type Route, route } from '../route.js'
import type { Seats } from '../seats.js'
import { acceptedSchema, explanationSchema, idParams } from './schemas.js'

const MOST_CALLS = 1000
const LONGEST_WAIT_S = 600
/** How often the state of a call is read for the stream of its events. */
const EVENTS_EVERY_MS = 500
const ENDED: ReadonlySet<string> = new Set(['done', 'failed', 'expired'])

const waitQuery = z.strictObject({ wait: z.coerce.number().min(0).max(LONGEST_WAIT_S).optional() })

/** How long the client waits for the result, in ms: `?wait=`, else `Prefer: wait=` (RFC 7240); both in seconds. */
export function preferredWaitMs(request: Pick<FastifyRequest, 'headers'>): number | undefined {
  const [, seconds] = /(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])/.exec([request.headers['prefer']].flat().join(',')) ?? []
  return seconds === undefined ? undefined : Number(seconds) * SECOND
}

/** Aborts when the client is gone. */
export function goneSignal(reply: FastifyReply): AbortSignal {
  const aborter = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) aborter.abort(new TollgateError('CALL_CANCELLED', 'the client is gone'))
  })
  return aborter.signal
}

function acceptedOf({ id, decision }: Ticket): z.infer<typeof acceptedSchema> {
  if (decision === undefined) return { id }
  const { outcome } = decision
  if (decision.outcome === 'wait')
    return {
      id,
      outcome: 'wait',
      etaMs: decision.etaMs,
      etaMaxMs: decision.etaMaxMs,
      position: decision.position,
      binding: decision.binding,
      waitsFor: decision.waitsFor,
    }
  return outcome === 'degrade' || outcome === 'run' ? { id, outcome, etaMs: 0, etaMaxMs: 0 } : { id }
}

/** The result of a call if it is there within a time; undefined where it is not. @throws what the call failed with */
async function resultWithin(ticket: Ticket, waitMs: number, gone: AbortSignal): Promise<{ result: unknown } | undefined> {
  const late = AbortSignal.timeout(waitMs)
  try {
    return { result: await ticket.result({ signal: AbortSignal.any([late, gone]) }) }
  } catch (error) {
    if (late.aborted || gone.aborted) return undefined
    throw error
  }
}

export function callRoutes(tollgate: Tollgate, seats: Seats): Route[] {
  const waitFor = async (tickets: readonly Ticket[], waitMs: number, reply: FastifyReply) => {
    const leave = seats.take()
    const gone = goneSignal(reply)
    try {
      return await Promise.all(tickets.map((ticket) => resultWithin(ticket, waitMs, gone)))
    } finally {
      leave()
    }
  }
  return [
    route({
      method: 'POST',
      path: '/v1/calls',
      summary: 'Enqueue a call, or a list of calls; with ?wait= or Prefer: wait= answer with its result if that is there in time',
      access: 'producer',
      body: z.union([callSchema, z.array(callSchema).min(1).max(MOST_CALLS)]),
      bodyIsChecked: true,
      query: waitQuery,
      answers: {
        200: [
          'The result of the call, or what became of each call of a list',
          z.union([z.object({ id: z.string(), result: z.unknown() }), z.array(z.unknown())]),
        ],
        202: ['The call was accepted', acceptedSchema],
      },
      async handle({ body, query }, reply, request) {
        const waitMs = query.wait === undefined ? (preferredWaitMs(request) ?? 0) : query.wait * SECOND
        if (Array.isArray(body)) {
          if (body.length === 0 || body.length > MOST_CALLS)
            throw new RequestInvalid(faultMessage('body', `must be a call or 1 to ${MOST_CALLS} calls`, show(body.length)))
          const tickets = await tollgate.enqueueMany(body as Call[])
          const results =
            waitMs > 0
              ? await waitFor(
                  tickets.filter(({ error }) => error === undefined),
                  waitMs,
                  reply,
                )
              : []
          const accepted = tickets.filter(({ error }) => error === undefined)
          return tickets.map((ticket) =>
            ticket.error !== undefined ? { id: ticket.id, error: problemOf(ticket.error) } : { ...acceptedOf(ticket), ...results[accepted.indexOf(ticket)] },
          )
        }
        const ticket = await tollgate.enqueue(body as Call)
        const [done] = waitMs > 0 ? await waitFor([ticket], Math.min(waitMs, LONGEST_WAIT_S * SECOND), reply) : []
        if (ticket.decision !== undefined) reply.headers(rateLimitFields({ allowed: true, usage: ticket.decision.usage, retryAfterMs: 0 }))
        if (done !== undefined) return { id: ticket.id, ...done }
        const accepted = acceptedOf(ticket)
        reply.code(202).header('location', `/v1/calls/${encodeURIComponent(ticket.id)}`)
        return reply.header('retry-after', retryAfterSeconds(accepted.etaMs ?? SECOND)).send(accepted)
      },
    }),
    route({
      method: 'GET',
      path: '/v1/calls/{id}',
      summary: 'The state of a call, and its result once it is done; with ?wait= wait for the result',
      access: 'producer',
      params: idParams,
      query: waitQuery,
      answers: { 200: ['State and result', explanationSchema.extend({ result: z.unknown().optional() })] },
      async handle({ params: { id }, query }, reply, request) {
        const waitMs = query.wait === undefined ? (preferredWaitMs(request) ?? 0) : query.wait * SECOND
        let found = await tollgate.explain(id)
        if (waitMs > 0 && !ENDED.has(found.state)) {
          const ticket = { result: (options: { signal: AbortSignal }) => tollgate.result(id, options) } as Ticket
          await waitFor([ticket], waitMs, reply).catch(() => {})
          found = await tollgate.explain(id)
        }
        if (found.state !== 'done') return found
        return { ...found, result: await tollgate.result(id, { signal: AbortSignal.timeout(5 * SECOND) }) }
      },
    }),
    route({
      method: 'GET',
      path: '/v1/calls/{id}/explain',
      summary: 'Where a call stands, what it waits for, and for how long',
      access: 'producer',
      params: idParams,
      answers: { 200: ['The explanation', explanationSchema] },
      handle: ({ params: { id } }) => tollgate.explain(id),
    }),
    route({
      method: 'DELETE',
      path: '/v1/calls/{id}',
      summary: 'Cancel a call: it leaves its line, or its handler is aborted',
      access: 'producer',
      params: idParams,
      answers: { 200: ['Whether it was cancelled; false where it had finished', z.object({ id: z.string(), cancelled: z.boolean() })] },
      handle: async ({ params: { id } }) => ({ id, cancelled: await tollgate.cancel(id) }),
    }),
    route({
      method: 'GET',
      path: '/v1/calls/{id}/events',
      summary: 'State, position and ETA of a call as server-sent events, until it ends',
      access: 'producer',
      params: idParams,
      answers: { 200: ['text/event-stream; each event holds an explanation', null] },
      async handle({ params: { id } }, reply) {
        let found = await tollgate.explain(id)
        const leave = seats.take()
        const gone = goneSignal(reply)
        reply.hijack()
        const { raw } = reply
        raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
        try {
          for (let last = ''; !gone.aborted; found = await tollgate.explain(id)) {
            const { state, position, etaMs } = found
            const now = JSON.stringify([state, position, etaMs === null ? null : Math.ceil(etaMs / SECOND)])
            if (now !== last) raw.write(`event: ${state}\ndata: ${JSON.stringify(found)}\n\n`)
            last = now
            if (ENDED.has(state)) break
            await seats.sleep(EVENTS_EVERY_MS, gone)
          }
        } catch (error) {
          raw.write(`event: error\ndata: ${JSON.stringify(problemOf(error))}\n\n`)
        } finally {
          leave()
          raw.end()
        }
      },
    }),
  ]
}
