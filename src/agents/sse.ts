/** The longest event that is looked into, in characters; a longer one passes as it is. */
const LONGEST_EVENT = 1_048_576

/** Cuts a stream of server-sent events into its events, each with the line break that ends it; characters are not cut. */
export class EventSplitter {
  private readonly decoder = new TextDecoder('utf-8', { fatal: false })
  private rest = ''

  push(chunk: Uint8Array): string[] {
    this.rest += this.decoder.decode(chunk, { stream: true })
    const events: string[] = []
    for (;;) {
      const end = /\r\n\r\n|\n\n|\r\r/.exec(this.rest)
      if (end === null) break
      events.push(this.rest.slice(0, end.index + end[0].length))
      this.rest = this.rest.slice(end.index + end[0].length)
    }
    if (this.rest.length > LONGEST_EVENT) events.push(this.end())
    return events
  }

  /** What is left: an event that was not finished. */
  end(): string {
    const { rest } = this
    this.rest = ''
    return rest
  }
}

/** The data of an event as JSON; undefined where it is none. */
export function eventData(event: string): unknown {
  const data = event
    .split(/\r\n|\n|\r/)
    .filter((line) => line.startsWith('data:'))
    .map((line) => line.slice(5))
    .join('\n')
  if (!data.includes('{')) return undefined
  try {
    return JSON.parse(data)
  } catch {
    return undefined
  }
}
