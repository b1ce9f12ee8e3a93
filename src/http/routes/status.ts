import { z } from 'zod'
import type { Tollgate } from '../../tollgate.js'
import { type Route, route } from '../route.js'
import type { Seats } from '../seats.js'

const readiness = z.object({ ready: z.boolean(), redis: z.boolean(), dispatched: z.boolean(), closing: z.boolean() })

export function statusRoutes(tollgate: Tollgate, seats: Seats): Route[] {
  return [
    route({
      method: 'GET',
      path: '/healthz',
      summary: 'Whether the process lives',
      access: 'open',
      answers: { 200: ['It does', z.object({ ok: z.boolean() })] },
      handle: () => ({ ok: true }),
    }),
    route({
      method: 'GET',
      path: '/readyz',
      summary: 'Whether the server does its work: Redis answers, a process dispatches the lines, and it is not closing',
      access: 'open',
      answers: { 200: ['It does', readiness], 503: ['It does not', readiness] },
      async handle(_input, reply) {
        const closing = seats.closed.aborted
        const { redis, dispatched } = await tollgate.reach()
        const ready = redis && dispatched && !closing
        return reply.code(ready ? 200 : 503).send({ ready, redis, dispatched, closing })
      },
    }),
    route({
      method: 'GET',
      path: '/metrics',
      summary: 'Metrics for Prometheus',
      access: 'open',
      answers: { 200: ['text/plain', null] },
      async handle(_input, reply) {
        const registry = await tollgate.metrics()
        return reply.type(registry.contentType).send(await registry.metrics())
      },
    }),
    route({
      method: 'GET',
      path: '/v1/stats',
      summary: 'What became of everything that was charged, what agents reported, and outages of Redis',
      access: 'admin',
      answers: { 200: ['Figures', z.object({ ledger: z.unknown(), upstream: z.array(z.unknown()), outage: z.unknown(), held: z.number() })] },
      handle: async () => ({
        ledger: await tollgate.stats.ledger(),
        upstream: await tollgate.stats.upstream(),
        outage: tollgate.stats.outage(),
        held: seats.count,
      }),
    }),
  ]
}
