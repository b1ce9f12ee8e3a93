import { identityOf } from '../admission/identity.js'
import type { CallRequest } from '../admission/request.js'
import type { Resolver } from '../admission/resolver.js'
import type { Call } from '../model/call.js'
import type { Decision } from '../model/decision.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid, StoreUnavailable, TollgateError } from '../model/errors.js'
import type { Unanswered } from '../redis/bounded-wait.js'
import type { EnqueueTrace } from '../telemetry/tracing.js'
import { jsonOf, validateCall } from '../validation/call.js'

/** A valid call, and who it is. */
export interface TakenCall {
  readonly call: Call
  readonly identity: string
}

/** A request that knows who its call was before any degraded mode. */
export type EnqueueRequest = CallRequest & { readonly identity: string }

/** A call on its way in: prepared → decided → queued. It leaves that way as refused. */
export type IncomingCall =
  | { readonly state: 'prepared'; readonly id: string; readonly request: EnqueueRequest }
  | {
      readonly state: 'decided'
      readonly id: string
      readonly request: EnqueueRequest
      readonly decision: Decision
      readonly decidedMs: number
      /** Over which Redis told the decision: see `connectionOf`. */
      readonly connection: unknown
      readonly trace: EnqueueTrace | undefined
    }
  /** Its job is in BullMQ; without a decision where that is the job of an earlier call with its id or deduplication key. */
  | { readonly state: 'queued'; readonly id: string; readonly identity: string; readonly decision?: Decision }
  /** Without a decision where the call is not valid ('' is its id then), or Redis did not answer. */
  | { readonly state: 'refused'; readonly id: string; readonly error: TollgateError; readonly decision?: Decision }

export type PreparedCall = Exclude<IncomingCall, { state: 'decided' }>
export type DecidedCall = Exclude<IncomingCall, { state: 'prepared' }>
export type EnqueuedCall = Extract<IncomingCall, { state: 'queued' | 'refused' }>

/** A copy of a call, its payload as its worker will see it; why it is not valid where it is not. */
export function takeCall(input: Call, resolver: Resolver, maxPayloadBytes: number): TakenCall | TollgateError {
  try {
    const said = validateCall(input)
    const identity = identityOf(said)
    const call = resolver.withEndpoint(said)
    if (call.payload === undefined) return { call, identity }
    // BullMQ would find a payload that is no JSON too late: when room is reserved already.
    const json = jsonOf(call.payload)
    const bytes = Buffer.byteLength(json)
    if (bytes > maxPayloadBytes)
      throw new CallInvalid(`payload: may have ${maxPayloadBytes} bytes as JSON, the maxPayloadBytes of this Tollgate (got ${bytes} bytes)`)
    return { call: typeof call.payload === 'object' ? { ...call, payload: JSON.parse(json) } : call, identity }
  } catch (error) {
    if (error instanceof TollgateError) return error
    throw error
  }
}

export function notValid(error: TollgateError, id = ''): Extract<PreparedCall, { state: 'refused' }> {
  return { state: 'refused', id, error }
}

/** @param adding whether its job may have been sent, not only its request for a decision */
export function unansweredCall(id: string, { message, cause, sent }: Unanswered, adding: boolean): EnqueuedCall {
  const maybeEnqueued = adding && sent
  const what = maybeEnqueued ? 'the call may have been enqueued after all: try again under the same id' : 'the call was not enqueued'
  const known = id === '' ? undefined : id
  const error = new StoreUnavailable(`${message}; ${what}`, { retryAfterMs: DEFAULTS.storeRetryAfterMs, id: known, maybeEnqueued, cause })
  return { state: 'refused', id, error }
}
