import { bulk, command } from './resp.js'

/** A blocking read, as one that does not block: it is asked again after each command that may have brought what it waits for. */
export interface BlockingRead {
  readonly bytes: Buffer
  /** How long it blocks; 0 without a bound. */
  readonly blockMs: number
  /** What the client gets for an answer; undefined where there is nothing yet. */
  readonly answerOf: (reply: Buffer) => Buffer | undefined
}

export const TIMED_OUT = Buffer.from('_\r\n')

const EMPTY_ARRAY_BYTES = 4
const NULL = 95

/** The blocking reads that BullMQ sends: BZPOPMIN on the marker of a queue, XREAD BLOCK on its events. */
export function blockingRead(name: string, args: readonly Buffer[]): BlockingRead | undefined {
  if (name === 'BZPOPMIN') {
    const [, key, seconds] = args as [Buffer, Buffer, Buffer]
    return {
      bytes: command(['ZPOPMIN', key]),
      blockMs: Number(seconds.toString()) * 1000,
      answerOf: (reply) =>
        reply.length <= EMPTY_ARRAY_BYTES ? undefined : Buffer.concat([Buffer.from('*3\r\n'), bulk(key), reply.subarray(EMPTY_ARRAY_BYTES)]),
    }
  }
  if (name === 'XREAD') {
    const at = args.findIndex((arg) => arg.toString().toUpperCase() === 'BLOCK')
    if (at < 0) return undefined
    return {
      bytes: command([...args.slice(0, at), ...args.slice(at + 2)]),
      blockMs: Number((args[at + 1] as Buffer).toString()),
      answerOf: (reply) => (reply[0] === NULL ? undefined : reply),
    }
  }
  return undefined
}
