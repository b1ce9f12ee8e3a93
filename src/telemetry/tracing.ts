import { type Attributes, type Context, context, propagation, ROOT_CONTEXT, type Span, SpanKind, SpanStatusCode, type Tracer, trace } from '@opentelemetry/api'
import type { Call } from '../model/call.js'
import type { ActualCosts } from '../model/cost.js'
import type { Decision } from '../model/decision.js'
import { reasonOf } from '../model/wait-reason.js'
import { endpointPath } from '../validation/endpoint.js'

/** What goes along with a job, so that its worker goes on with the trace of its enqueue. */
export interface TraceCarrier {
  readonly traceparent: string
  readonly tracestate?: string | undefined
  /** What the call waited for, as its enqueuer was told. */
  readonly wait?: Attributes | undefined
}

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({})

/** The tracer of the SDK that the application has registered; undefined where there is none, and a call then costs this one look. */
export function tracerInUse(): Tracer | undefined {
  const provider = trace.getTracerProvider()
  if (!('getDelegateTracer' in provider)) return provider.getTracer('tollgate')
  return (provider as { getDelegateTracer(name: string): Tracer | undefined }).getDelegateTracer('tollgate')
}

function carrierOf(of: Context): TraceCarrier | undefined {
  const span = trace.getSpanContext(of)
  if (span === undefined || !trace.isSpanContextValid(span)) return undefined
  // By hand: an SDK without a propagator would end the trace here.
  const flags = span.traceFlags.toString(16).padStart(2, '0')
  const state = span.traceState?.serialize()
  return { traceparent: `00-${span.traceId}-${span.spanId}-${flags}`, ...(state === undefined || state === '' ? {} : { tracestate: state }) }
}

/** The context that a carrier, or the headers of a request, name; `otherwise` where they name none. */
export function contextIn(carrier: Readonly<Record<string, unknown>> | undefined, otherwise: Context = ROOT_CONTEXT): Context {
  const { traceparent } = carrier ?? {}
  if (typeof traceparent !== 'string') return otherwise
  const extracted = propagation.extract(otherwise, carrier)
  if (trace.getSpanContext(extracted) !== trace.getSpanContext(otherwise)) return extracted
  const [, traceId = '', spanId = '', flags = ''] = /^[\da-f]{2}-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})/.exec(traceparent) ?? []
  const span = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true }
  return trace.isSpanContextValid(span) ? trace.setSpanContext(otherwise, span) : otherwise
}

/** The trace that the running code is in, for a call that is held in this process. */
export function activeCarrier(): TraceCarrier | undefined {
  return tracerInUse() === undefined ? undefined : carrierOf(context.active())
}

/** The headers by which an agent goes on with the trace of the running code. */
export function traceHeaders(of: Context = context.active()): Readonly<Record<string, string>> {
  if (tracerInUse() === undefined) return NO_HEADERS
  const headers: Record<string, string> = {}
  propagation.inject(of, headers)
  const { traceparent, tracestate } = carrierOf(of) ?? {}
  return { ...headers, ...(traceparent === undefined ? {} : { traceparent }), ...(tracestate === undefined ? {} : { tracestate }) }
}

/** Runs work in the trace that the headers of a request name, unless it is in one already. */
export function inTraceOf<T>(headers: Readonly<Record<string, unknown>>, work: () => T): T {
  if (tracerInUse() === undefined || trace.getSpanContext(context.active()) !== undefined) return work()
  return context.with(contextIn(headers, context.active()), work)
}

function decisionAttributes(decision: Decision): Attributes {
  const binding = 'binding' in decision ? decision.binding : null
  const limit = binding === null ? undefined : decision.usage.find((one) => one.rule === binding.rule && one.limit === binding.limit)
  return {
    'tollgate.outcome': decision.outcome,
    ...(binding === null ? {} : { 'tollgate.rule': binding.rule, 'tollgate.limit': binding.limit }),
    ...(decision.outcome === 'wait' && decision.waitsFor !== null ? { 'tollgate.wait.reason': decision.waitsFor } : {}),
    ...(decision.outcome === 'reject' && binding !== null ? { 'tollgate.wait.reason': reasonOf(binding, limit?.windowMs) } : {}),
  }
}

function failSpan(span: Span, error: unknown): void {
  const { code, name, message } = (error ?? {}) as { code?: unknown; name?: unknown; message?: unknown }
  span.setAttribute('error.type', typeof code === 'string' ? code : typeof name === 'string' ? name : '_OTHER')
  span.setStatus({ code: SpanStatusCode.ERROR, message: String(message ?? error) })
}

function messaging(queue: string, operation: 'send' | 'process', id: string): Attributes {
  return {
    'messaging.system': 'bullmq',
    'messaging.destination.name': queue,
    'messaging.operation.name': operation,
    'messaging.operation.type': operation,
    'messaging.message.id': id,
  }
}

/** A call on its way into the queue: the span `send <queue>`. */
export class EnqueueTrace {
  private wait: Attributes | undefined

  private constructor(private readonly span: Span) {}

  /** @returns undefined where no SDK is registered */
  static begin(queue: string, id: string, { agent }: Call): EnqueueTrace | undefined {
    const tracer = tracerInUse()
    if (tracer === undefined) return undefined
    const attributes = { ...messaging(queue, 'send', id), 'tollgate.agent': agent }
    return new EnqueueTrace(tracer.startSpan(`send ${queue}`, { kind: SpanKind.PRODUCER, attributes }))
  }

  decided(decision: Decision): void {
    const attributes = decisionAttributes(decision)
    this.span.setAttributes(attributes)
    if (decision.outcome !== 'wait') return
    const { 'tollgate.outcome': _outcome, ...wait } = attributes
    this.wait = wait
  }

  get carrier(): TraceCarrier | undefined {
    const carrier = carrierOf(trace.setSpan(ROOT_CONTEXT, this.span))
    return carrier === undefined || this.wait === undefined ? carrier : { ...carrier, wait: this.wait }
  }

  end(error?: unknown): void {
    if (error !== undefined) failSpan(this.span, error)
    this.span.end()
  }
}

/** The providers that the conventions have names for; other agents are named as they are. */
const PROVIDERS: Readonly<Record<string, string>> = {
  gemini: 'gcp.gemini',
  vertex: 'gcp.vertex_ai',
  bedrock: 'aws.bedrock',
  mistral: 'mistral_ai',
  xai: 'x_ai',
}

function operationOf(endpoint: string | undefined): string | undefined {
  const path = endpoint === undefined ? '' : endpointPath(endpoint)
  if (/\/(chat\/completions|messages|responses)$/.test(path)) return 'chat'
  if (/\/embeddings$/.test(path)) return 'embeddings'
  if (/\/completions$/.test(path)) return 'text_completion'
  return /:(streamG|g)enerateContent$/.test(path) ? 'generate_content' : undefined
}

function requestAttributes({ agent, model, endpoint, payload }: Call): { name: string; attributes: Attributes } {
  const fields = (payload !== null && typeof payload === 'object' ? payload : {}) as { model?: unknown; max_tokens?: unknown }
  const operation = operationOf(endpoint)
  const asked = model ?? (typeof fields.model === 'string' ? fields.model : undefined)
  const name = operation === undefined ? `call ${agent}` : asked === undefined ? operation : `${operation} ${asked}`
  return {
    name,
    attributes: {
      'gen_ai.provider.name': PROVIDERS[agent] ?? agent,
      ...(operation === undefined ? {} : { 'gen_ai.operation.name': operation }),
      ...(asked === undefined ? {} : { 'gen_ai.request.model': asked }),
      ...(typeof fields.max_tokens === 'number' ? { 'gen_ai.request.max_tokens': fields.max_tokens } : {}),
    },
  }
}

/** One attempt of a call in a worker: the span `process <queue>`, and below it `gate` and that of the agent; beside it `wait`. */
export class AttemptTrace {
  /** In which `process` stands. */
  private readonly within: Context
  private agentSpan: Span | undefined
  private agentContext: Context
  private waited = false

  private constructor(
    private readonly tracer: Tracer,
    private readonly parent: Context,
    private readonly span: Span,
    private readonly carrier: TraceCarrier | undefined,
    private readonly enqueuedMs: number,
  ) {
    this.within = trace.setSpan(parent, span)
    this.agentContext = this.within
  }

  /**
   * @param inActive whether the attempt goes on with the span that is active, which is BullMQ's own where it was given a `telemetry`
   * @returns undefined where no SDK is registered
   */
  static begin(queue: string, id: string, carrier: TraceCarrier | undefined, enqueuedMs: number, attempt: number, inActive: boolean): AttemptTrace | undefined {
    const tracer = tracerInUse()
    if (tracer === undefined) return undefined
    const active = context.active()
    const isIn = inActive && trace.getSpanContext(active) !== undefined
    const parent = isIn ? active : contextIn(carrier === undefined ? undefined : { ...carrier })
    const attributes = { ...messaging(queue, 'process', id), 'tollgate.attempt': attempt }
    const span = tracer.startSpan(`process ${queue}`, { kind: SpanKind.CONSUMER, attributes }, parent)
    return new AttemptTrace(tracer, parent, span, carrier, enqueuedMs)
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    return context.with(this.within, work)
  }

  /** Asks the gate: `decisionOf` reads its answer. */
  gate<T>(work: () => Promise<T>, decisionOf: (answer: T) => Decision): Promise<T> {
    return decidedIn(this.tracer.startSpan('gate', {}, this.within), work, decisionOf)
  }

  /** The call starts: what came before was its wait. */
  started(): void {
    if (this.waited) return
    this.waited = true
    const attributes = { ...this.carrier?.wait }
    this.tracer.startSpan('wait', { startTime: this.enqueuedMs, attributes }, this.parent).end()
  }

  /** The call goes to its agent. */
  agent<T>(call: Call, work: () => T): T {
    const { name, attributes } = requestAttributes(call)
    this.agentSpan = this.tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes }, this.within)
    this.agentContext = trace.setSpan(this.within, this.agentSpan)
    return context.with(this.agentContext, work)
  }

  /** The headers by which an agent goes on with the trace. */
  get headers(): Readonly<Record<string, string>> {
    return traceHeaders(this.agentContext)
  }

  /** The agent has answered, or the call failed. @param result what the handler returned */
  answered(actual: ActualCosts | undefined, result?: unknown, error?: unknown): void {
    const span = this.agentSpan
    if (span === undefined) return
    this.agentSpan = undefined
    const { output, status } = (result !== null && typeof result === 'object' ? result : {}) as { output?: unknown; status?: unknown }
    const { model, id } = (output !== null && typeof output === 'object' ? output : {}) as { model?: unknown; id?: unknown }
    span.setAttributes({
      ...(actual?.inputTokens === undefined ? {} : { 'gen_ai.usage.input_tokens': actual.inputTokens }),
      ...(actual?.outputTokens === undefined ? {} : { 'gen_ai.usage.output_tokens': actual.outputTokens }),
      ...(typeof model === 'string' ? { 'gen_ai.response.model': model } : {}),
      ...(typeof id === 'string' ? { 'gen_ai.response.id': id } : {}),
      ...(typeof status === 'number' ? { 'http.response.status_code': status } : {}),
    })
    if (error !== undefined) failSpan(span, error)
    span.end()
  }

  /** @param error undefined where the attempt ended as it should: done, or back in line */
  end(error?: unknown): void {
    this.answered(undefined, undefined, error)
    if (error !== undefined) failSpan(this.span, error)
    this.span.end()
  }
}

/** Asks the gate without the queue, as a span of the running code. @param name gate: one decision; wait: until there is room */
export function tracedGate<T extends { readonly decision: Decision }>(tracer: Tracer, name: 'gate' | 'wait', work: () => Promise<T>): Promise<T> {
  return decidedIn(tracer.startSpan(name), work, ({ decision }) => decision)
}

/** Ends a span with what was decided in it, or the error. */
async function decidedIn<T>(span: Span, work: () => Promise<T>, decisionOf: (answer: T) => Decision): Promise<T> {
  try {
    const answer = await work()
    span.setAttributes(decisionAttributes(decisionOf(answer)))
    return answer
  } catch (error) {
    failSpan(span, error)
    throw error
  } finally {
    span.end()
  }
}
