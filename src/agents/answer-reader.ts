import type { Call } from '../model/call.js'
import { countTokens } from '../pricing/tokenizer.js'
import { type CallUsage, readUsage } from '../pricing/usage.js'
import { EventSplitter, eventData } from './sse.js'

/** Answers are read whole for their usage up to so many bytes; of longer ones the end is searched. */
const READ_WHOLE = 4_194_304
const TAIL = 65_536
/** The longest text of a stream that is kept, to count its tokens should the stream break off. */
const LONGEST_TEXT = 1_048_576
const CHARACTERS_PER_TOKEN = 4
const USAGE = /"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})/g

/** Reads the usage of an answer while it passes through. */
export interface AnswerReader {
  /** @returns what the client gets of this part */
  push(chunk: Buffer): Uint8Array
  /** The answer has ended. @returns what is left for the client */
  end(): Uint8Array
  /** What the answer has used; of one that broke off, what was seen of it. @param inputTokens the estimate of its input */
  usage(inputTokens: number): Promise<CallUsage | undefined>
  /** The same without a tokenizer, at once. */
  roughUsage(inputTokens: number): CallUsage | undefined
}

const NOTHING = new Uint8Array()

function defined<T extends object>(value: T): Partial<T> {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as Partial<T>
}

/** An answer of one piece, mostly JSON. */
export class WholeReader implements AnswerReader {
  private chunks: Buffer[] = []
  private bytes = 0
  private ended = false

  push(chunk: Buffer): Uint8Array {
    this.bytes += chunk.length
    this.chunks.push(chunk)
    if (this.bytes > READ_WHOLE && this.chunks.length > 1) {
      let kept = 0
      let from = this.chunks.length
      while (from > 0 && kept < TAIL) kept += this.chunks[--from]?.length ?? 0
      this.chunks = this.chunks.slice(from)
    }
    return chunk
  }

  end(): Uint8Array {
    this.ended = true
    return NOTHING
  }

  async usage(inputTokens: number): Promise<CallUsage | undefined> {
    return this.roughUsage(inputTokens)
  }

  roughUsage(inputTokens: number): CallUsage | undefined {
    // It broke off: what it has used of its output is not known, and none of it was seen.
    if (!this.ended) return { inputTokens, outputTokens: 0 }
    const text = Buffer.concat(this.chunks).toString('utf8')
    if (this.bytes <= READ_WHOLE) {
      try {
        return readUsage(JSON.parse(text))
      } catch {
        return undefined
      }
    }
    const [, last] = [...text.slice(-TAIL).matchAll(USAGE)].at(-1) ?? []
    return last === undefined ? undefined : readUsage({ usage: JSON.parse(last) })
  }
}

function field(value: unknown, name: string): unknown {
  return value !== null && typeof value === 'object' ? (value as Record<string, unknown>)[name] : undefined
}

/** The text that an event adds to the answer, in any of the forms of OpenAI and Anthropic. */
function addedText(event: unknown): string {
  const texts: string[] = []
  const collect = (value: unknown): void => {
    if (typeof value === 'string') texts.push(value)
    else if (Array.isArray(value)) value.forEach(collect)
    else if (value !== null && typeof value === 'object')
      for (const [name, one] of Object.entries(value)) if (!['role', 'type', 'id', 'index', 'signature', 'name'].includes(name)) collect(one)
  }
  const choices = field(event, 'choices')
  // chat: choices[].delta; completions: choices[].text. Anthropic and the Responses API: delta.
  if (Array.isArray(choices)) for (const choice of choices) collect(field(choice, 'delta') ?? field(choice, 'text'))
  else if (field(event, 'type') !== 'message_delta') collect(field(event, 'delta'))
  return texts.join('')
}

/** A stream of server-sent events. */
export class StreamReader implements AnswerReader {
  private readonly splitter = new EventSplitter()
  private readonly reported: CallUsage = {}
  private text = ''
  private characters = 0
  private final = false

  /** @param dropsUsage whether the client did not ask for the last chunk of OpenAI's chat, which has the usage alone */
  constructor(private readonly dropsUsage: boolean) {}

  push(chunk: Buffer): Uint8Array {
    const passed = this.splitter.push(chunk).filter((event) => this.look(event))
    return passed.length === 0 ? NOTHING : Buffer.from(passed.join(''))
  }

  end(): Uint8Array {
    const rest = this.splitter.end()
    return rest === '' || !this.look(rest) ? NOTHING : Buffer.from(rest)
  }

  async usage(inputTokens: number): Promise<CallUsage | undefined> {
    if (this.final) return this.reported
    const rest = Math.ceil((this.characters - this.text.length) / CHARACTERS_PER_TOKEN)
    return this.broken(inputTokens, this.text === '' ? 0 : (await countTokens([this.text])) + rest)
  }

  roughUsage(inputTokens: number): CallUsage | undefined {
    return this.final ? this.reported : this.broken(inputTokens, Math.ceil(this.characters / CHARACTERS_PER_TOKEN))
  }

  private broken(inputTokens: number, seen: number): CallUsage {
    return { ...this.reported, inputTokens: this.reported.inputTokens ?? inputTokens, outputTokens: Math.max(this.reported.outputTokens ?? 0, seen) }
  }

  /** @returns whether the client gets the event */
  private look(event: string): boolean {
    const data = eventData(event)
    if (data === undefined) return true
    const added = addedText(data)
    this.characters += added.length
    if (this.text.length < LONGEST_TEXT) this.text += added
    const usage = event.includes('"usage"') ? readUsage(data) : undefined
    if (usage === undefined) return true
    Object.assign(this.reported, defined(usage))
    const choices = field(data, 'choices')
    const alone = Array.isArray(choices) && choices.length === 0
    // Anthropic begins with the input and a first output token: only the end has all of the output.
    if (field(data, 'type') !== 'message_start') this.final = true
    return !(alone && this.dropsUsage)
  }
}

/** An answer that cannot be read: compressed, although the agent was asked not to. Its estimate stands. */
class BlindReader implements AnswerReader {
  push(chunk: Buffer): Uint8Array {
    return chunk
  }
  end(): Uint8Array {
    return NOTHING
  }
  async usage(): Promise<CallUsage | undefined> {
    return undefined
  }
  roughUsage(): CallUsage | undefined {
    return undefined
  }
}

/** The reader for an answer with these headers. @param dropsUsage see `StreamReader` */
export function readerOf(type: string, encoding: string | undefined, dropsUsage: boolean): AnswerReader {
  if (encoding !== undefined && encoding !== 'identity') return new BlindReader()
  return type.startsWith('text/event-stream') ? new StreamReader(dropsUsage) : new WholeReader()
}

/** The input tokens that were estimated; 0 where no rule counts any. */
export function estimatedInput({ cost }: Call): number {
  return cost?.inputTokens ?? Math.max(0, (cost?.tokens ?? 0) - (cost?.outputTokens ?? 0))
}
