import type { ServerResponse } from 'node:http'
import { TollgateError } from '../../model/errors.js'
import type { ClientRefusal } from './refusal.js'

type AnswerHeaders = Readonly<Record<string, string | string[]>>

const STREAM_HEADERS = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache', 'x-accel-buffering': 'no' }

/** Waits until a client takes more; after `stallMs` without that its connection is cut, so that no slow client holds memory or a slot for long. */
function drained(response: ServerResponse, stallMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => response.destroy(), stallMs)
    const done = () => {
      clearTimeout(timer)
      response.off('drain', done).off('close', done)
      resolve()
    }
    response.on('drain', done).on('close', done)
  })
}

/**
 * The answer to one call, for every client that waits for it: the one that made the call, and those that joined it by its idempotency key.
 *
 * A part is written to all of them before the next one is read from the agent: the slowest client sets the pace, up to `stallMs`. Nothing is kept of
 * parts that were written, except where clients may join: then up to `keepBytes`.
 */
export class AnswerStream {
  private readonly clients = new Set<ServerResponse>()
  private head: { readonly status: number; readonly headers: AnswerHeaders } | undefined
  private kept: Uint8Array[] = []
  private keptBytes = 0
  private overflowed = false
  private ended = false

  /**
   * @param keepBytes how much is kept for clients that join; 0: none may join
   * @param deserted is called when the last client is gone before the end
   */
  constructor(
    private readonly keepBytes: number,
    private readonly stallMs: number,
    private readonly deserted: () => void,
  ) {}

  get hasBegun(): boolean {
    return this.head !== undefined
  }

  get isDeserted(): boolean {
    return this.clients.size === 0
  }

  /** Whether a client could still get the whole answer. */
  get isWhole(): boolean {
    return !this.overflowed
  }

  get hasEnded(): boolean {
    return this.ended
  }

  /** Adds a client, which gets what was written until now. @throws SERVER_BUSY where that is not kept any more */
  attach(response: ServerResponse): void {
    if (this.overflowed) throw new TollgateError('SERVER_BUSY', 'this call has answered more than is kept for clients that come back')
    this.clients.add(response)
    response.once('close', () => {
      if (!this.clients.delete(response) || this.ended) return
      if (this.clients.size === 0) this.deserted()
    })
    response.on('error', () => {})
    if (this.head !== undefined) response.writeHead(this.head.status, this.head.headers).flushHeaders()
    for (const part of this.kept) response.write(part)
    if (this.ended) response.end()
  }

  /** @param atOnce sends the head before there is a part: of a stream. Else both leave together. */
  begin(status: number, headers: AnswerHeaders, atOnce: boolean): void {
    this.head = { status, headers }
    for (const client of this.clients) {
      client.writeHead(status, headers)
      if (atOnce) client.flushHeaders()
    }
  }

  /** A line that clients of event streams ignore. It begins the answer of a call that waits: from then on it is a stream. */
  comment(text: string): void {
    if (this.head === undefined) this.begin(200, STREAM_HEADERS, true)
    // A comment that a client has not taken yet is not followed by another one.
    for (const client of this.clients) if (!client.writableNeedDrain) client.write(`: ${text}\n\n`)
  }

  /** @returns a promise where a client has to take first what it was sent */
  write(part: Uint8Array): Promise<void> | undefined {
    if (part.length === 0) return undefined
    this.keep(part)
    let waits: Promise<void>[] | undefined
    for (const client of this.clients) {
      if (client.write(part)) continue
      waits ??= []
      waits.push(drained(client, this.stallMs))
    }
    return waits === undefined ? undefined : Promise.all(waits).then(() => {})
  }

  /** The agent broke off: its clients must not take what they have for the whole. */
  cut(): void {
    this.ended = true
    for (const client of this.clients) client.destroy()
  }

  end(last: Uint8Array = new Uint8Array()): void {
    if (this.ended) return
    this.keep(last)
    this.ended = true
    for (const client of this.clients) client.end(last)
  }

  refuse({ status, headers, body, event }: ClientRefusal, more: Readonly<Record<string, string>>): void {
    if (this.ended) return
    const begun = this.head !== undefined
    if (!begun) this.begin(status, { ...more, ...headers }, false)
    this.end(Buffer.from(begun ? event : body))
  }

  private keep(part: Uint8Array): void {
    if (this.overflowed || part.length === 0) return
    this.keptBytes += part.length
    if (this.keptBytes <= this.keepBytes) this.kept.push(part)
    else {
      this.overflowed = true
      this.kept = []
    }
  }
}
