import type { Call } from '../model/call.js'
import { DEFAULTS } from '../model/defaults.js'
import { UpstreamLimited } from '../model/errors.js'
import type { CallUsage } from '../pricing/usage.js'
import type { HeldCalls } from '../queue/held-calls.js'
import { isFinalAnswer, isRefusal } from '../upstream/refusals.js'
import { type AnswerReader, estimatedInput, readerOf } from './answer-reader.js'
import { outboundBody, readInbound } from './inbound.js'

/** Whose calls they are: merged into every call of a fetch. */
export type FetchIdentity = Pick<Call, 'org' | 'team' | 'user' | 'ip' | 'keys' | 'priority' | 'strategy' | 'maxWaitMs'>

/** What a call has used that the agent did not take. */
const NONE: CallUsage = { tokens: 0, inputTokens: 0, outputTokens: 0, usd: 0 }

/** The headers of an answer whose body was read and written anew. */
function headersOf({ headers }: Response): Headers {
  const copy = new Headers(headers)
  // fetch has decompressed it already.
  for (const name of ['content-length', 'content-encoding']) copy.delete(name)
  return copy
}

/** Passes a body on through a reader. `ended` resolves when it has ended, broke off, or its consumer wants no more. */
function metered(body: ReadableStream<Uint8Array>, reader: AnswerReader): { readonly body: ReadableStream<Uint8Array>; readonly ended: Promise<void> } {
  const source = body.getReader()
  let end = () => {}
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          for (;;) {
            const { done, value } = await source.read()
            const part = done ? reader.end() : reader.push(Buffer.from(value))
            if (part.length > 0) controller.enqueue(part)
            if (done) {
              controller.close()
              end()
            }
            if (done || part.length > 0) return
          }
        } catch (error) {
          end()
          throw error
        }
      },
      async cancel(reason) {
        end()
        await source.cancel(reason)
      },
    },
    { highWaterMark: 0 },
  )
  return { body: stream, ended }
}

/**
 * A `fetch` whose requests wait in the lines of the namespace until they may start, and are settled by the usage in their answers. A 429, 503 or 529
 * puts the call back to its place in line. A body has to be read or cancelled: the call runs until then.
 */
export function heldFetch(held: HeldCalls, agent: string, of: FetchIdentity): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init)
    const body = Buffer.from(await request.arrayBuffer())
    const { pathname, search } = new URL(request.url)
    const inbound = readInbound(agent, { method: request.method, target: pathname + search, headers: {}, body }, DEFAULTS.outputTokens)
    return new Promise<Response>((resolve, reject) => {
      const send = async (
        call: Call,
        { degraded, degradeTo, signal, observe }: Parameters<Parameters<HeldCalls['run']>[1]>[1],
      ): Promise<{ usage?: CallUsage }> => {
        const outbound = outboundBody(inbound, degraded ? degradeTo : undefined)
        const headers = new Headers(request.headers)
        headers.delete('content-length')
        const options = { method: request.method, headers, redirect: request.redirect, signal: AbortSignal.any([signal, request.signal]) }
        const response = await fetch(request.url, outbound.length === 0 ? options : { ...options, body: new Uint8Array(outbound) })
        if (isRefusal(response.status)) {
          const text = await response.text()
          if (isFinalAnswer(response.status, response.headers, text)) {
            resolve(new Response(text, { status: response.status, headers: headersOf(response) }))
            return { usage: NONE }
          }
          throw new UpstreamLimited({ headers: response.headers, message: `${agent} answered ${response.status}` })
        }
        observe(response.headers)
        const reader = readerOf(response.headers.get('content-type') ?? '', undefined, inbound.addsUsage)
        if (response.body === null) {
          resolve(response)
          reader.end()
        } else {
          const passed = metered(response.body, reader)
          resolve(new Response(passed.body, { status: response.status, statusText: response.statusText, headers: headersOf(response) }))
          await passed.ended
        }
        const usage = await reader.usage(estimatedInput(call))
        return usage === undefined ? (response.ok ? {} : { usage: NONE }) : { usage }
      }
      held.run({ ...inbound.call, ...of }, send, { signal: request.signal }).catch(reject)
    })
  }
}
