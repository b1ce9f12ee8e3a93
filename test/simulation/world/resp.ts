/** The framing of Redis' protocol (RESP2 and RESP3): where a message ends, what a command says. Values are passed on as bytes. */

const CR = 13
const [STRING, BULK, ERROR_BULK, VERBATIM] = ['+', '$', '!', '='].map((type) => type.charCodeAt(0))
const [ARRAY, MAP, SET, PUSH, ATTRIBUTE] = ['*', '%', '~', '>', '|'].map((type) => type.charCodeAt(0))

/** The index after the message that begins at `at`, or -1 where it is not complete. */
export function messageEnd(bytes: Buffer, at: number): number {
  const lineEnd = bytes.indexOf(CR, at)
  if (lineEnd < 0 || lineEnd + 1 >= bytes.length) return -1
  const type = bytes[at]
  const afterLine = lineEnd + 2
  const count = () => Number(bytes.toString('latin1', at + 1, lineEnd))
  if (type === BULK || type === VERBATIM || type === ERROR_BULK) {
    const length = count()
    if (length < 0) return afterLine
    const end = afterLine + length + 2
    return end > bytes.length ? -1 : end
  }
  if (type === ARRAY || type === SET || type === PUSH || type === MAP || type === ATTRIBUTE) {
    let end = afterLine
    for (let left = type === MAP || type === ATTRIBUTE ? 2 * count() : count(); left > 0; left--) {
      end = messageEnd(bytes, end)
      if (end < 0) return -1
    }
    return type === ATTRIBUTE ? messageEnd(bytes, end) : end
  }
  return afterLine
}

/** Splits what arrives on a stream into messages. */
export class Messages {
  private rest: Buffer = Buffer.alloc(0)

  add(chunk: Buffer): Buffer[] {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk])
    const messages: Buffer[] = []
    let at = 0
    while (at < this.rest.length) {
      const end = messageEnd(this.rest, at)
      if (end < 0) break
      messages.push(this.rest.subarray(at, end))
      at = end
    }
    this.rest = this.rest.subarray(at)
    return messages
  }
}

/** The elements of a message that is a flat list of bulk strings: a command, a push, the answer of a script. */
export function elementsOf(message: Buffer): Buffer[] {
  const lineEnd = message.indexOf(CR, 0)
  const elements: Buffer[] = []
  let at = lineEnd + 2
  for (let left = Number(message.toString('latin1', 1, lineEnd)); left > 0; left--) {
    const sizeEnd = message.indexOf(CR, at)
    if (message[at] !== BULK) {
      elements.push(message.subarray(at + 1, sizeEnd))
      at = sizeEnd + 2
      continue
    }
    const size = Number(message.toString('latin1', at + 1, sizeEnd))
    elements.push(message.subarray(sizeEnd + 2, sizeEnd + 2 + size))
    at = sizeEnd + 2 + size + 2
  }
  return elements
}

const CRLF = Buffer.from('\r\n')

export function bulk(value: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`$${value.length}\r\n`), value, CRLF])
}

export type Argument = string | number | Buffer

export function command(args: readonly Argument[]): Buffer {
  return Buffer.concat([Buffer.from(`*${args.length}\r\n`), ...args.map((arg) => bulk(Buffer.isBuffer(arg) ? arg : Buffer.from(String(arg))))])
}

export function push(parts: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.from(`>${parts.length}\r\n`), ...parts])
}

export function isError(message: Buffer): boolean {
  return message[0] === 45
}

export function isPush(message: Buffer): boolean {
  return message[0] === PUSH
}

export type RespValue = string | Buffer | number | null | RespValue[]

/** @throws where the message is an error */
export function decode(message: Buffer, binary = false): RespValue {
  let at = 0
  const one = (): RespValue => {
    const lineEnd = message.indexOf(CR, at)
    const type = message[at]
    const line = message.toString('latin1', at + 1, lineEnd)
    at = lineEnd + 2
    if (type === BULK || type === VERBATIM) {
      const length = Number(line)
      if (length < 0) return null
      const value = message.subarray(at, at + length)
      at += length + 2
      return binary ? value : value.toString()
    }
    if (type === ARRAY || type === SET || type === MAP || type === PUSH) {
      const list: RespValue[] = []
      for (let left = type === MAP ? 2 * Number(line) : Number(line); left > 0; left--) list.push(one())
      return list
    }
    if (type === STRING) return line
    if (type === 58 || type === 44) return Number(line)
    if (type === 95) return null
    if (type === 45) throw new Error(line)
    if (type === 35) return line === 't' ? 1 : 0
    throw new Error(`unknown type in a message of Redis: ${String.fromCharCode(type ?? 0)}`)
  }
  return one()
}
