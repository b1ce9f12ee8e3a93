import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import fastifyRateLimit from '@fastify/rate-limit'
import { serve } from '@hono/node-server'
import { Queue, QueueEvents, Worker } from 'bullmq'
import express from 'express'
import { rateLimit } from 'express-rate-limit'
import Fastify from 'fastify'
import { Hono } from 'hono'
import { Redis } from 'ioredis'
import OpenAI from 'openai'
import { expect, inject, onTestFinished, test } from 'vitest'
import {
  defaultRules,
  expressLimit,
  expressRateLimitStore,
  fastifyLimit,
  fastifyRateLimitStore,
  honoLimit,
  type LimitOptions,
  type RuleSpec,
  type Tollgate,
} from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { startSampleAgent } from '../support/sample-agent.js'
import { until } from '../support/until.js'

const PER_USER: RuleSpec = { name: 'user', scope: 'user', strategy: 'retry_after', limits: [{ requests: 2, per: 'minute', algorithm: 'fixed_window' }] }
const PER_IP: RuleSpec = { name: 'ip', scope: 'ip', strategy: 'retry_after', limits: [{ requests: 1, per: 'minute', algorithm: 'fixed_window' }] }

async function listening(server: Server): Promise<string> {
  if (!server.listening) await once(server, 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Options of a middleware, whatever its framework: the user is in a header. */
function options(headerOf: (request: never, name: string) => string | undefined): LimitOptions<never> {
  return {
    identify: (request) => ({ user: headerOf(request, 'x-user') }),
    skip: (request) => headerOf(request, 'x-skip') !== undefined,
    refusal: (error, request) => (headerOf(request, 'x-own') === undefined ? undefined : { mine: error.code }),
    trustProxy: 1,
    partitionSecret: 'secret',
  }
}

const SERVERS: Record<string, (tollgate: Tollgate) => Promise<string>> = {
  express: async (tollgate) => {
    const app = express()
    app.use(expressLimit(tollgate, options((request: express.Request, name) => request.get(name)) as LimitOptions<express.Request>))
    app.get('/hello', (_request, response) => void response.send('hello'))
    return listening(app.listen(0, '127.0.0.1'))
  },
  fastify: async (tollgate) => {
    const app = Fastify()
    await app.register(
      fastifyLimit(
        tollgate,
        options((request: { headers: Record<string, string> }, name) => request.headers[name]),
      ) as never,
    )
    app.get('/hello', async () => 'hello')
    await app.listen({ host: '127.0.0.1', port: 0 })
    onTestFinished(() => app.close())
    return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  },
  hono: async (tollgate) => {
    const app = new Hono()
    app.use(
      honoLimit(
        tollgate,
        options((context: { req: { header(name: string): string | undefined } }, name) => context.req.header(name)),
      ) as never,
    )
    app.get('/hello', (context) => context.text('hello'))
    return listening(serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server)
  },
}

test.each(Object.keys(SERVERS))('%s: requests are counted by user, else by address, with the headers of the draft; refusals are problems', async (name) => {
  const tollgate = await newNamespace().open({ rules: [PER_USER, PER_IP] })
  const url = await (SERVERS[name] as (tollgate: Tollgate) => Promise<string>)(tollgate)
  const get = async (headers: Record<string, string>) => {
    const response = await fetch(`${url}/hello?x=1`, { headers })
    return { status: response.status, headers: response.headers, text: await response.text() }
  }
  const first = await get({ 'x-user': 'ann' })
  expect([first.status, first.text]).toEqual([200, 'hello'])
  expect(first.headers.get('ratelimit-policy')).toMatch(/^"user\/requests\/minute";q=2;w=60;pk=:[A-Za-z0-9+/=]+:$/)
  expect(first.headers.get('ratelimit')).toMatch(/^"user\/requests\/minute";r=1;t=\d+;pk=:/)
  expect(first.headers.get('ratelimit')).not.toContain('ann')
  expect([first.headers.get('x-ratelimit-limit'), first.headers.get('x-ratelimit-remaining')]).toEqual(['2', '1'])
  await get({ 'x-user': 'ann' })
  const refused = await get({ 'x-user': 'ann' })
  expect([refused.status, refused.headers.get('content-type')]).toEqual([429, 'application/problem+json'])
  expect(JSON.parse(refused.text)).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', 'violated-policies': ['user/requests/minute'] })
  const [, resetS] = /;t=(\d+)/.exec(refused.headers.get('ratelimit') ?? '') ?? []
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(Number(resetS))
  expect(JSON.parse((await get({ 'x-user': 'ann', 'x-own': '1' })).text)).toEqual({ mine: 'RATE_LIMIT_EXCEEDED' })
  expect((await get({ 'x-user': 'ann', 'x-skip': '1' })).status).toBe(200)
  expect((await get({ 'x-user': 'bob' })).status).toBe(200)
  // One proxy is believed: what the client itself wrote before it is not.
  expect((await get({ 'x-forwarded-for': '6.6.6.6, 2001:db8::1' })).status).toBe(200)
  expect((await get({ 'x-forwarded-for': '7.7.7.7, 2001:db8::2:2' })).status).toBe(429)
  expect((await get({ 'x-forwarded-for': '2001:db8:0:1::1' })).status).toBe(200)
})

test('a concurrency limit holds until the answer has left', async () => {
  const tollgate = await newNamespace().open({ rules: [{ name: 'slot', scope: 'agent', strategy: 'hard', limits: [{ concurrency: 1 }] }] })
  const app = express()
  let end = () => {}
  app.use(expressLimit(tollgate))
  app.get('/', (_request, response) => {
    end = () => response.send('done')
  })
  const url = await listening(app.listen(0, '127.0.0.1'))
  const first = fetch(url)
  await until('it is held', () => end.name !== '')
  expect((await fetch(url)).status).toBe(429)
  end()
  expect(await (await first).text()).toBe('done')
  await until('the slot is free', async () => (await tollgate.gate.peek({ agent: 'http' })).allowed)
})

test('express-rate-limit and @fastify/rate-limit keep their hits in the namespace', async () => {
  const namespace = newNamespace()
  const [one, other] = [await namespace.open(), await namespace.open()]
  const apps = await Promise.all(
    [one, other].map(async (tollgate) => {
      const app = express()
      app.use(
        rateLimit({
          windowMs: 60_000,
          limit: 3,
          store: expressRateLimitStore(tollgate),
          legacyHeaders: false,
          standardHeaders: 'draft-8',
          skipFailedRequests: true,
        }),
      )
      app.get('/', (_request, response) => void response.send('x'))
      app.get('/fail', (_request, response) => void response.status(500).send('x'))
      return listening(app.listen(0, '127.0.0.1'))
    }),
  )
  const status = async (app: number, path = '/') => (await fetch(apps[app] + path)).status
  expect([await status(0), await status(1), await status(0, '/fail')]).toEqual([200, 200, 500])
  await until(
    'the failed one is taken back',
    async () =>
      ((await one.limiter({ name: 'express-rate-limit.60000.returned', requests: 1e12, per: '60s', algorithm: 'fixed_window' }).peek('127.0.0.1', 0)).usage[0]
        ?.used ?? 0) === 1,
  )
  expect([await status(1), await status(0), await status(1)]).toEqual([200, 429, 429])

  const fastify = Fastify()
  await fastify.register(fastifyRateLimit, { max: 2, timeWindow: 60_000, store: fastifyRateLimitStore(one) as never })
  fastify.get('/', async () => 'x')
  onTestFinished(() => fastify.close())
  const codes = []
  for (let n = 0; n < 3; n++) codes.push((await fastify.inject('/')).statusCode)
  expect(codes).toEqual([200, 200, 429])
})

test('tollgate.fetch is a fetch for a client of the agent: its calls wait, stream and are settled', async () => {
  const { url } = await startSampleAgent()
  const budget: RuleSpec = { name: 'b', scope: 'agent', limits: [{ tokens: 1e6, per: 'day', algorithm: 'fixed_window' }, { concurrency: 1 }] }
  const tollgate = await newNamespace().open({ rules: [budget] })
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'own', fetch: tollgate.fetch('llm', { user: 'ann' }) })
  const body = { model: 'm', messages: [{ role: 'user' as const, content: 'hi' }], max_tokens: 9, replay_usage: { prompt_tokens: 1, completion_tokens: 4 } }
  const [first, second] = await Promise.all([client.chat.completions.create(body), client.chat.completions.create(body)])
  expect([first.model, second.model]).toEqual(['m', 'm'])
  let text = ''
  for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) text += chunk.choices[0]?.delta.content ?? ''
  expect(text).toBe('word '.repeat(4))
  for await (const _chunk of await client.chat.completions.create({ ...body, stream: true })) break
  const used = async () => (await tollgate.gate.peek({ agent: 'llm', cost: { tokens: 0 } })).usage.map(({ used: amount }) => amount)
  await until('all are settled', async () => (await used())[1] === 0)
  await until('all are settled', async () => ((await used())[0] ?? 0) >= 16)
  expect((await used())[0]).toBeLessThanOrEqual(25)
})

test('gateProcessor gates a worker of any BullMQ queue, which keeps its names, data, attempts and events', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'slot', scope: 'agent', limits: [{ concurrency: 1 }] }] })
  const connection = new Redis(inject('redisUrl'), { maxRetriesPerRequest: null })
  const blocking = connection.duplicate()
  const prefix = `mine-${namespace.name}`
  let running = 0
  let most = 0
  const processor = tollgate.gateProcessor(async (job) => {
    most = Math.max(most, ++running)
    await new Promise((resolve) => setTimeout(resolve, 5))
    running--
    if (job.data.fails && job.attemptsMade === 0) throw new Error('once')
    return { echoed: job.data }
  })
  const queue = new Queue('emails', { connection, prefix })
  const events = new QueueEvents('emails', { connection: blocking, prefix })
  const worker = new Worker('emails', processor, { connection, prefix, concurrency: 5 })
  await events.waitUntilReady()
  const jobs = await Promise.all([1, 2, 3, 4].map((n) => queue.add('llm', { n })))
  const failing = await queue.add('llm', { fails: true }, { attempts: 2 })
  expect(await Promise.all(jobs.map((job) => job.waitUntilFinished(events)))).toEqual([1, 2, 3, 4].map((n) => ({ echoed: { n } })))
  expect(await failing.waitUntilFinished(events)).toEqual({ echoed: { fails: true } })
  expect(most).toBe(1)
  await worker.close()
  await events.close()
  await queue.obliterate({ force: true })
  await queue.close()
  connection.disconnect()
  blocking.disconnect()
})

test('defaultRules are rules that hold, and limit expensive endpoints per client', async () => {
  const tollgate = await newNamespace().open({ rules: defaultRules() })
  const call = { agent: 'http', endpoint: '/search', user: 'u', keys: { client: 'u' } }
  const answers = []
  for (let n = 0; n < 11; n++) answers.push(await tollgate.gate.admit(call))
  expect(answers.map(({ allowed }) => allowed)).toEqual([...Array(10).fill(true), false])
  expect(answers[10]?.limitExceeded).toBe('expensive/requests/minute')
  expect(tollgate.rules.list().map(({ limits }) => limits[0]?.requests)).toEqual([1000, 100, 50, 10, 60, 10])
})
