import type { IncomingHttpHeaders } from 'node:http'
import type { Dispatcher } from 'undici'

/** So many bytes of an answer may come before somebody takes them: about one read of a socket. */
const MOST_UNTAKEN = 65_536

type Take = (part: Buffer) => void | Promise<void>

/**
 * The answer of an agent to one request. It stands on undici's handlers, without a stream between: a part is handed on in the turn in which it is read,
 * and nothing more is read while its taker is not done with it.
 */
export class AnswerSource implements Dispatcher.DispatchHandler {
  status = 0
  headers: IncomingHttpHeaders = {}
  /** Resolves when the headers of the answer are there. */
  readonly begun: Promise<void>
  private begin: () => void = () => {}
  private fail: (error: unknown) => void = () => {}
  private controller: Dispatcher.DispatchController | undefined
  private untaken: Buffer[] = []
  private untakenBytes = 0
  private take: Take | undefined
  /** Whether a taker is not done with the last part. */
  private busy = false
  private complete = false
  private failure: Error | undefined
  /** Ends `read`. */
  private settle: (() => void) | undefined

  constructor() {
    this.begun = new Promise((resolve, reject) => {
      this.begin = resolve
      this.fail = reject
    })
  }

  /** The parts of an answer that is there to its end already, as most short ones are; undefined where more is to come. */
  whole(): readonly Buffer[] | undefined {
    return this.complete ? this.untaken : undefined
  }

  /** Hands on each part, one after the other. @throws where the answer breaks off or was aborted, and what `take` throws */
  async read(take: Take): Promise<void> {
    this.take = take
    const ended = new Promise<void>((resolve) => {
      this.settle = resolve
    })
    this.pump()
    await ended
    if (this.failure !== undefined) throw this.failure
  }

  /** The first part of the body, and its end where that is near: errors are short. The rest is not read. */
  async beginning(mostBytes: number): Promise<Buffer> {
    const parts: Buffer[] = []
    let bytes = 0
    const enough = new Error('enough was read')
    await this.read((part) => {
      parts.push(part)
      bytes += part.length
      if (bytes > mostBytes) this.abort(enough)
    }).catch((error: unknown) => {
      if (error !== enough) throw error
    })
    return Buffer.concat(parts)
  }

  /** Ends the request: its connection is closed, unless the answer is complete. */
  abort(reason: Error): void {
    if (this.complete || this.failure !== undefined) return
    this.failure = reason
    this.controller?.abort(reason)
    this.fail(reason)
    this.settle?.()
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller
    if (this.failure !== undefined) controller.abort(this.failure)
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) return
    this.status = status
    this.headers = headers
    this.begin()
  }

  onResponseData(controller: Dispatcher.DispatchController, part: Buffer): void {
    this.untaken.push(part)
    if (this.take !== undefined) {
      this.pump()
      return
    }
    this.untakenBytes += part.length
    if (this.untakenBytes > MOST_UNTAKEN) controller.pause()
  }

  onResponseEnd(): void {
    this.complete = true
    this.pump()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.failure ??= error
    this.fail(this.failure)
    this.settle?.()
  }

  private pump(): void {
    const { take } = this
    if (take === undefined || this.busy) return
    for (let part = this.untaken.shift(); part !== undefined && this.failure === undefined; part = this.untaken.shift()) {
      let taken: void | Promise<void>
      try {
        taken = take(part)
      } catch (error) {
        this.abort(errorOf(error))
        return
      }
      if (taken === undefined) continue
      this.busy = true
      this.controller?.pause()
      taken.then(
        () => {
          this.busy = false
          this.pump()
        },
        (error: unknown) => this.abort(errorOf(error)),
      )
      return
    }
    if (this.complete || this.failure !== undefined) this.settle?.()
    else if (this.controller?.paused === true) this.controller.resume()
  }
}

function errorOf(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
