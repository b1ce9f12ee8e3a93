import { createHash, randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import { withoutArguments } from '../../model/secrets.js'
import type { HeldCalls } from '../../queue/held-calls.js'
import type { Exchange } from './exchange.js'

/** A call with an idempotency key that is made in this process. */
export interface Joinable {
  readonly exchange: Exchange
  /** Of method, address and body: another request under the same key is a mistake of its client. */
  readonly digest: string
}

/** The process that makes a call. */
export interface Holder {
  /** Where it is reached. */
  readonly at: string
  /** Lets a request join the call there. */
  readonly token: string
  /** The note in Redis that says so. */
  readonly note: string
}

export type Taken = { readonly here: Joinable; readonly isNew: boolean } | { readonly elsewhere: Holder }

const MOST_JOINABLE = 10_000
/** How long a note stands that is not renewed: the process that wrote it is gone. */
const NOTE_MS = 60_000
const RENEW_MS = 20_000

/**
 * The calls with idempotency keys that wait, run, or have ended a short while ago: here, and which process makes those that are made elsewhere.
 *
 * A note in Redis, under a hash of identity, agent and key, names the process that makes the call: its address, and a random token that lets others join.
 * It is written by compare-and-set before the call is made, so of two processes that get the same request at once one makes the call. No answer is in
 * Redis: the other process passes the request on, and the answer back.
 *
 * If the process dies, its note ends after a minute; a process that does not reach it takes the note over at once, and makes the call anew. If Redis is
 * away, keys join within this process alone.
 */
export class Joinables {
  /** Where this process is reached by others; undefined: it is not, and makes no notes. */
  address: string | undefined
  private readonly joinable = new Map<string, Joinable>()
  private readonly notes = new Map<string, Holder>()
  private readonly byToken = new Map<string, string>()
  /** Notes that are being written: what resolves when that is over, by key and by token. */
  private readonly writing = new Map<string, Promise<void>>()
  private readonly renewals: NodeJS.Timeout

  constructor(
    private readonly held: HeldCalls,
    private readonly log: Logger,
  ) {
    this.renewals = setInterval(() => {
      for (const [key, { note }] of this.notes) void this.write(key, note, note, NOTE_MS)
    }, RENEW_MS)
    this.renewals.unref()
  }

  /**
   * Finds the call of a key, or makes it here.
   * @param make makes the call @param instead the note of a process that could not be reached: it is taken over
   */
  async take(key: string, make: () => Joinable, instead = ''): Promise<Taken> {
    for (let writing = this.writing.get(key); writing !== undefined; writing = this.writing.get(key)) await writing
    const known = this.joinable.get(key)
    const { answer } = known?.exchange ?? {}
    if (known !== undefined && (answer?.isWhole === true || answer?.hasEnded === false)) return { here: known, isNew: false }
    if (this.address === undefined || this.notes.has(key)) return this.remember(key, make())
    const token = randomBytes(16).toString('hex')
    const own: Holder = { at: this.address, token, note: `${token} ${this.address}` }
    let over = () => {}
    const writing = new Promise<void>((resolve) => {
      over = resolve
    })
    this.writing.set(key, writing).set(token, writing)
    try {
      let found = await this.write(key, instead, own.note, NOTE_MS)
      // The note has ended meanwhile.
      if (found === '') found = await this.write(key, '', own.note, NOTE_MS)
      const holder = found === undefined || found === own.note ? undefined : holderOf(found)
      if (holder !== undefined) return { elsewhere: holder }
      if (found === own.note) {
        this.notes.set(key, own)
        this.byToken.set(token, key)
      }
      return this.remember(key, make())
    } finally {
      this.writing.delete(key)
      this.writing.delete(token)
      over()
    }
  }

  /** The call that another process joins by its token; undefined where it is not, or no more, here. */
  async ofToken(token: string): Promise<Joinable | undefined> {
    await this.writing.get(token)
    const key = this.byToken.get(token)
    return key === undefined ? undefined : this.joinable.get(key)
  }

  /** @param exchange nothing is forgotten where another one has its key by now */
  forget(key: string, exchange: Exchange): void {
    if (this.joinable.get(key)?.exchange === exchange) this.drop(key)
  }

  close(): void {
    clearInterval(this.renewals)
    for (const key of [...this.joinable.keys()]) this.drop(key)
  }

  private remember(key: string, joinable: Joinable): Taken {
    // The oldest goes: its client is the likeliest to be gone.
    if (this.joinable.size >= MOST_JOINABLE) this.drop(this.joinable.keys().next().value as string)
    this.joinable.set(key, joinable)
    return { here: joinable, isNew: true }
  }

  private drop(key: string): void {
    this.joinable.delete(key)
    const own = this.notes.get(key)
    if (own === undefined) return
    this.notes.delete(key)
    this.byToken.delete(own.token)
    void this.write(key, own.note, own.note, 1)
  }

  /** @returns the note as it stands now; undefined where Redis is away */
  private async write(key: string, was: string, becomes: string, keepMs: number): Promise<string | undefined> {
    try {
      const { written, state } = await this.held.share(createHash('sha256').update(key).digest('base64url'), was, becomes, keepMs)
      return written ? becomes : state
    } catch (error) {
      this.log.debug(
        { err: withoutArguments(error) },
        'the process of a call with an idempotency key could not be noted; its key joins calls of this process alone',
      )
      return undefined
    }
  }
}

function holderOf(note: string): Holder | undefined {
  const [, token = '', at = ''] = /^([0-9a-f]{32}) (https?:\/\/[^\s/]+)$/.exec(note) ?? []
  return at === '' ? undefined : { at, token, note }
}
