import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { rateLimitFields } from '../../middleware/rate-limit-fields.js'
import { NOTHING } from '../../model/cost.js'
import { CallInvalid } from '../../model/errors.js'
import type { Tollgate } from '../../tollgate.js'
import { amount, amounts, callSchema } from '../../validation/call.js'
import { type Route, route } from '../route.js'
import { answerSchema } from './schemas.js'

const usage = z.strictObject({ ...amounts, cachedInputTokens: amount.optional(), cacheWriteTokens: amount.optional() })
const ended = z.object({ id: z.string(), open: z.boolean() })

export function gateRoutes(tollgate: Tollgate): Route[] {
  return [
    route({
      method: 'POST',
      path: '/v1/check',
      summary: 'What the gate would decide on a call (peek, which charges nothing), or its decision (admit, which charges the call)',
      access: 'producer',
      body: z.strictObject({ call: callSchema, mode: z.enum(['peek', 'admit']).default('peek') }),
      answers: { 200: ['The answer; `allowed` says whether the call may be made. One that was admitted has the id to settle it by', answerSchema] },
      async handle({ body: { call, mode } }, reply) {
        const admitted = mode === 'admit' ? { ...call, id: call.id ?? randomUUID() } : undefined
        const answer = admitted === undefined ? await tollgate.gate.peek(call) : await tollgate.gate.admit(admitted)
        reply.headers(rateLimitFields(answer))
        const { allowed, limitExceeded, remaining, resetAt, retryAfterMs, usage: limits } = answer
        return { allowed, limitExceeded, remaining, resetAt, retryAfterMs, usage: limits, ...(allowed && admitted !== undefined ? { id: admitted.id } : {}) }
      },
    }),
    ...(['settle', 'release'] as const).map((verb) =>
      route({
        method: 'POST',
        path: `/v1/check/${verb}`,
        summary: verb === 'settle' ? 'Replace the estimate of an admitted call by its usage' : 'Give back the charge of an admitted call that was not made',
        access: 'producer',
        body: verb === 'settle' ? z.strictObject({ call: callSchema, usage: usage.optional() }) : z.strictObject({ call: callSchema }),
        answers: { 200: ['Whether the call was open', ended] },
        async handle({ body }) {
          const { call, usage: used } = body as { call: z.output<typeof callSchema>; usage?: z.output<typeof usage> }
          if (call.id === undefined) throw new CallInvalid('id: is needed to know which call ended (got undefined)')
          const open = verb === 'settle' ? await tollgate.gate.settle(call, used) : await tollgate.gate.release(call)
          return { id: call.id, open }
        },
      }),
    ),
    route({
      method: 'GET',
      path: '/v1/meters',
      summary: 'The usage of every limit that covers such a call',
      access: 'producer',
      query: callSchema.pick({ agent: true, endpoint: true, model: true, user: true, team: true, org: true, ip: true }),
      answers: { 200: ['The answer that such a call would get, without a cost', answerSchema] },
      handle: ({ query }) => tollgate.gate.peek({ ...query, cost: NOTHING }),
    }),
  ]
}
