import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { context, SpanKind, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import { BullMQOtel } from 'bullmq-otel'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { httpAgent, UpstreamLimited } from '../../src/index.js'
import { tracerInUse } from '../../src/telemetry/tracing.js'
import { newNamespace } from '../support/namespace.js'
import { startServer } from '../support/server.js'
import { until } from '../support/until.js'

const exporter = new InMemorySpanExporter()
const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] })

beforeEach(() => {
  trace.setGlobalTracerProvider(provider)
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
})
afterEach(() => {
  trace.disable()
  context.disable()
  exporter.reset()
})

const spans = (name: string) => exporter.getFinishedSpans().filter((span) => span.name === name)
const span = (name: string): ReadableSpan => spans(name)[0] ?? expect.fail(`no span ${name} among ${exporter.getFinishedSpans().map((one) => one.name)}`)
const parentOf = ({ parentSpanContext }: ReadableSpan) => parentSpanContext?.spanId
const idOf = (one: ReadableSpan) => one.spanContext().spanId

/** An agent that keeps the headers it was sent. */
async function startAgent(): Promise<{ url: string; seen: IncomingHttpHeaders[] }> {
  const seen: IncomingHttpHeaders[] = []
  const server = createServer((request, response) => {
    seen.push(request.headers)
    request.resume()
    const usage = { prompt_tokens: 12, completion_tokens: 3, total_tokens: 15 }
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ id: 'x-1', model: 'm-2026', choices: [], usage }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen }
}

test('a call that waits is one trace: enqueue, wait, gate and agent, which is sent the trace', async () => {
  const namespace = newNamespace()
  const agent = await startAgent()
  const tollgate = await namespace.open({ rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 2, per: 'second', burst: 1 }] }] })
  const app = trace.getTracer('app')
  const root = app.startSpan('request')
  const call = { agent: 'openai', endpoint: '/v1/chat/completions', model: 'm', payload: { messages: [], max_tokens: 5 } }
  const tickets = await context.with(trace.setSpan(context.active(), root), () => tollgate.enqueueMany([call, call]))
  root.end()
  tollgate.worker(httpAgent({ openai: { baseUrl: agent.url } }))
  for (const ticket of tickets) await ticket.result()
  await until('all spans ended', () => spans('process calls').length >= 2 && spans('chat m').length === 2)

  const traceId = root.spanContext().traceId
  const sent = spans('send calls')
  expect(sent.map((one) => one.attributes['tollgate.outcome']).sort()).toEqual(['run', 'wait'])
  for (const one of sent) expect(parentOf(one)).toBe(root.spanContext().spanId)
  const waited = sent.find((one) => one.attributes['tollgate.outcome'] === 'wait') as ReadableSpan
  expect(waited).toMatchObject({
    kind: SpanKind.PRODUCER,
    attributes: {
      'messaging.system': 'bullmq',
      'messaging.destination.name': 'calls',
      'messaging.operation.name': 'send',
      'tollgate.rule': 'r',
      'tollgate.limit': 'requests/second',
      'tollgate.wait.reason': 'RATE',
    },
  })
  const wait = spans('wait').find((one) => parentOf(one) === idOf(waited)) as ReadableSpan
  expect(wait.attributes).toEqual({ 'tollgate.rule': 'r', 'tollgate.limit': 'requests/second', 'tollgate.wait.reason': 'RATE' })
  expect(wait.duration[0] + wait.duration[1] / 1e9).toBeGreaterThan(0.1)
  const processed = spans('process calls').filter((one) => parentOf(one) === idOf(waited))
  const chat = spans('chat m').find((one) => processed.some((attempt) => idOf(attempt) === parentOf(one))) as ReadableSpan
  expect(chat).toMatchObject({
    kind: SpanKind.CLIENT,
    attributes: {
      'gen_ai.operation.name': 'chat',
      'gen_ai.provider.name': 'openai',
      'gen_ai.request.model': 'm',
      'gen_ai.request.max_tokens': 5,
      'gen_ai.response.model': 'm-2026',
      'gen_ai.usage.input_tokens': 12,
      'gen_ai.usage.output_tokens': 3,
    },
  })
  expect(spans('gate').some((one) => processed.some((attempt) => idOf(attempt) === parentOf(one)) && one.attributes['tollgate.outcome'] === 'run')).toBe(true)
  for (const one of exporter.getFinishedSpans()) expect(one.spanContext().traceId, one.name).toBe(traceId)
  const headers = agent.seen.map(({ traceparent }) => traceparent)
  expect(headers.sort()).toEqual(
    spans('chat m')
      .map((one) => `00-${traceId}-${idOf(one)}-01`)
      .sort(),
  )
})

test('a refused call, a failing handler and a 429 end their spans with what went wrong', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'r', scope: 'user', strategy: 'hard', limits: [{ requests: 0, per: 'day' }] }] })
  await expect(tollgate.enqueue({ agent: 'a', user: 'u' })).rejects.toThrow()
  expect(span('send calls').attributes).toMatchObject({ 'tollgate.outcome': 'reject', 'tollgate.rule': 'r', 'error.type': 'LIMIT_CLOSED' })
  let tries = 0
  tollgate.worker(async () => {
    if (tries++ === 0) throw new UpstreamLimited({ retryAfterMs: 5 })
    throw new TypeError('broken')
  })
  await expect((await tollgate.enqueue({ agent: 'a' })).result()).rejects.toThrow('broken')
  await until('both attempts ended', () => spans('process calls').length >= 2)
  const agents = spans('call a')
  expect(agents.map((one) => one.attributes['error.type'])).toEqual(['UPSTREAM_LIMITED', 'TypeError'])
  expect(
    new Set(
      exporter
        .getFinishedSpans()
        .filter((one) => one.name !== 'send calls')
        .map((one) => one.spanContext().traceId),
    ).size,
  ).toBe(1)
})

test('with bullmq-otel the spans of BullMQ stand in the same trace, and the attempt below that of its worker', async () => {
  const namespace = newNamespace()
  const telemetry = new BullMQOtel({ tracerName: 'bullmq' })
  const tollgate = await namespace.open({ telemetry, rules: [] })
  tollgate.worker(async () => ({}))
  await (await tollgate.enqueue({ agent: 'a' })).result()
  await until('the attempt ended', () => spans('process calls').length > 0)
  const attempt = span('process calls')
  await until('the span of BullMQ ended', () => exporter.getFinishedSpans().some((one) => idOf(one) === parentOf(attempt)))
  const consumer = exporter.getFinishedSpans().find((one) => idOf(one) === parentOf(attempt)) as ReadableSpan
  expect(consumer).toMatchObject({ kind: SpanKind.CONSUMER, instrumentationScope: { name: 'bullmq' } })
})

test('the pass-through goes on with the trace of its client, and sends it to the agent', async () => {
  const namespace = newNamespace()
  const agent = await startAgent()
  const { url } = await startServer(namespace, { agents: { llm: { baseUrl: agent.url } } })
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const response = await fetch(`${url}/agents/llm/v1/chat/completions`, { method: 'POST', headers: { traceparent }, body: '{"model":"m","messages":[]}' })
  expect(response.status).toBe(200)
  await response.text()
  await until('the span of the agent ended', () => spans('chat m').length === 1)
  const chat = span('chat m')
  expect(chat.spanContext().traceId).toBe('0af7651916cd43dd8448eb211c80319c')
  expect(chat.attributes).toMatchObject({ 'gen_ai.usage.input_tokens': 12 })
  expect(agent.seen[0]?.traceparent).toBe(`00-0af7651916cd43dd8448eb211c80319c-${idOf(chat)}-01`)
})

test('gate.admit is a span of the running code', async () => {
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [{ name: 'r', scope: 'user', limits: [{ requests: 1, per: 'day' }] }] })
  const root = trace.getTracer('app').startSpan('request')
  await context.with(trace.setSpan(context.active(), root), () => tollgate.gate.admit({ agent: 'a', user: 'u' }))
  expect(parentOf(span('gate'))).toBe(root.spanContext().spanId)
})

test('without an SDK there is no tracer, no header and no trace in the job', async () => {
  trace.disable()
  expect(tracerInUse()).toBeUndefined()
  const namespace = newNamespace()
  const tollgate = await namespace.open({ rules: [] })
  let headers: unknown
  tollgate.worker(async (_call, { traceHeaders, job }) => {
    headers = { ...traceHeaders, trace: (job?.opts as { trace?: unknown } | undefined)?.trace }
  })
  await (await tollgate.enqueue({ agent: 'a' })).result()
  expect(headers).toEqual({ trace: undefined })
  expect(exporter.getFinishedSpans()).toEqual([])
})
