import { type Argument, command, decode, isError, type RespValue } from '../world/resp.js'
import type { RealServer } from '../world/server.js'
import { EPOCH_MS } from '../world/server.js'
import type { RedisCommands } from './program.js'

/** One key of a Redis: its value as `DUMP` gives it, and when it ends. Equal keys with equal values are one object, so states are compared by identity. */
interface StoredKey {
  readonly number: number
  readonly name: string
  /** -1: it has no end. */
  readonly endsMs: number
  readonly value: Buffer
}

/** All keys of a Redis, in the order of their names. */
export type RedisState = readonly StoredKey[]

export const EMPTY_REDIS: RedisState = []

const SNAPSHOT = command([
  'EVAL',
  `local out, keys = {}, redis.call('KEYS', '*')
   for i = 1, #keys do
     out[3 * i - 2], out[3 * i - 1], out[3 * i] = keys[i], tostring(redis.call('PEXPIRETIME', keys[i])), redis.call('DUMP', keys[i])
   end
   return out`,
  0,
])

interface Queued {
  readonly bytes: Buffer
  readonly binary: boolean
  readonly writes: boolean
  readonly resolve: (value: RespValue) => void
  readonly reject: (error: unknown) => void
}

/**
 * A real Redis that can be put into any state seen before.
 *
 * An exploration goes from state to state: to each it returns several times, once per action that may happen there. The commands of one turn of the event
 * loop are sent together: first what makes the Redis that of the state (only the keys that differ), then the commands, then a snapshot. So a transition
 * with one script call costs one round trip, and a transition without a command costs none.
 */
export class RedisStates {
  private readonly interned = new Map<string, StoredKey>()
  /** What is in the server; null: a key that may be there, ended, where no snapshot shows it. */
  private readonly present = new Map<string, StoredKey | null>()
  private state: RedisState = EMPTY_REDIS
  private restored = true
  private queue: Queued[] = []
  private flushing = false
  private clockMs = Number.NaN
  /** Keys that commands find besides those of the state: what the model says of BullMQ. They are in no state. */
  private extras: ReadonlyMap<string, string> = new Map()
  /** The bytes of the last script call. */
  lastScript: Buffer | undefined
  roundTrips = 0

  /** What the program sees as its Redis client. */
  readonly client: RedisCommands = {
    call: (...args) => this.add(args, false, args[0] === 'fcall'),
    callBuffer: (...args) => this.add(args, true, args[0] === 'fcall'),
    get: (key) => this.add(['GET', key], false, false) as Promise<string | null>,
    mget: (keys) => this.add(['MGET', ...keys], false, false) as Promise<(string | null)[]>,
    zrange: (key, ...args) => this.add(['ZRANGE', key, ...args], false, false) as Promise<string[]>,
  }

  constructor(private readonly server: RealServer) {}

  /** Begins at a state. Nothing is sent before the first command. @param extras keys that commands find besides */
  begin(state: RedisState, atMs: number, extras: ReadonlyMap<string, string> = new Map()): void {
    this.state = state
    this.extras = extras
    this.restored = false
    this.setClock(atMs)
  }

  /** @param atMs since the beginning of time */
  setClock(atMs: number): void {
    if (atMs === this.clockMs) return
    this.clockMs = atMs
    this.server.setClock(EPOCH_MS + atMs)
    // Redis removes a key that has ended when a command meets it, which no snapshot shows.
    for (const [name, key] of this.present) if (key !== null && this.hasEnded(key)) this.present.set(name, null)
  }

  /** The state after all commands since `begin`. */
  end(): RedisState {
    return this.state.some((key) => this.hasEnded(key)) ? this.state.filter((key) => !this.hasEnded(key)) : this.state
  }

  /** Begins with an empty Redis. Values are not compressed, so that `contains` can look into them. */
  async prepare(): Promise<void> {
    await this.server.ask(['FLUSHALL'])
    await this.server.ask(['CONFIG', 'SET', 'rdbcompression', 'no'])
  }

  read(...args: (string | number)[]): Promise<RespValue> {
    return this.add(args, false, false)
  }

  write(...args: (string | number)[]): Promise<RespValue> {
    return this.enqueue(command(args), false, true)
  }

  /** Sends a script call once more, byte for byte. */
  again(bytes: Buffer): Promise<RespValue> {
    return this.enqueue(bytes, true, true)
  }

  private add(args: readonly Argument[], binary: boolean, isScript: boolean): Promise<RespValue> {
    const bytes = command(args)
    if (isScript) this.lastScript = bytes
    return this.enqueue(bytes, binary, isScript)
  }

  private enqueue(bytes: Buffer, binary: boolean, writes: boolean): Promise<RespValue> {
    return new Promise((resolve, reject) => {
      this.queue.push({ bytes, binary, writes, resolve, reject })
      if (this.flushing) return
      this.flushing = true
      queueMicrotask(() => void this.flush())
    })
  }

  private async flush(): Promise<void> {
    while (this.queue.length > 0) {
      const queued = this.queue
      this.queue = []
      const before = [...(this.restored ? [] : this.restoring()), ...[...this.extras].map(([key, value]) => command(['SET', key, value]))]
      const after = this.extras.size === 0 ? [] : [command(['DEL', ...this.extras.keys()])]
      this.restored = true
      const writes = queued.some((one) => one.writes)
      const bytes = [...before, ...queued.map((one) => one.bytes), ...after, ...(writes ? [SNAPSHOT] : [])]
      this.roundTrips++
      const { replies } = await this.server.send(Buffer.concat(bytes), bytes.length)
      const failed = replies.slice(0, before.length).find(isError)
      if (failed !== undefined) throw new Error(`a state could not be restored: ${failed}`)
      if (writes) this.keep(decode(replies.at(-1) as Buffer, true) as Buffer[])
      for (const [index, { binary, resolve, reject }] of queued.entries()) {
        try {
          resolve(decode(replies[before.length + index] as Buffer, binary))
        } catch (error) {
          reject(error)
        }
      }
    }
    this.flushing = false
  }

  /** The commands that make the server's keys those of the state. */
  private restoring(): Buffer[] {
    const commands: Buffer[] = []
    const wanted = new Set<string>()
    for (const key of this.state) {
      if (this.hasEnded(key)) continue
      wanted.add(key.name)
      if (this.present.get(key.name) === key) continue
      commands.push(command(['RESTORE', key.name, Math.max(0, key.endsMs), key.value, 'ABSTTL', 'REPLACE']))
      this.present.set(key.name, key)
    }
    const gone = [...this.present.keys()].filter((name) => !wanted.has(name))
    if (gone.length > 0) commands.push(command(['DEL', ...gone]))
    for (const name of gone) this.present.delete(name)
    return commands
  }

  private hasEnded({ endsMs }: StoredKey): boolean {
    return endsMs >= 0 && endsMs <= EPOCH_MS + this.clockMs
  }

  private keep(parts: readonly Buffer[]): void {
    const keys: StoredKey[] = []
    for (let at = 0; at < parts.length; at += 3) keys.push(this.intern(parts[at] as Buffer, parts[at + 1] as Buffer, parts[at + 2] as Buffer))
    keys.sort((one, other) => (one.name < other.name ? -1 : 1))
    // A key that ended is not in the snapshot, and may still be in the server: it would be seen again under an earlier clock.
    for (const name of this.present.keys()) this.present.set(name, null)
    for (const key of keys) this.present.set(key.name, key)
    this.state = keys
  }

  private intern(name: Buffer, ends: Buffer, value: Buffer): StoredKey {
    const text = `${name.toString()} ${ends.toString()} ${value.toString('latin1')}`
    let key = this.interned.get(text)
    if (key === undefined) {
      key = { number: this.interned.size, name: name.toString(), endsMs: Number(ends.toString()), value: Buffer.from(value) }
      this.interned.set(text, key)
    }
    return key
  }
}

/** Equal for equal states of one exploration. */
export function redisFingerprint(state: RedisState): string {
  return state.map(({ number }) => number).join()
}

/** Whether a small set has a member. Its serialized value holds the names of its members as they are, since the server does not compress it. */
export function contains(state: RedisState, key: string, member: string): boolean {
  return state.some(({ name, value }) => name === key && value.includes(member))
}
