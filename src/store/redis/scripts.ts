import { Library, Script } from '../../redis/script.js'

const NAMES = [
  'admit',
  'peek',
  'settle',
  'release',
  'drain',
  'expire',
  'tend',
  'announce',
  'upstream',
  'declare',
  'reset',
  'swap',
  'renew',
  'elect',
  'join',
  'absorb',
] as const
const library = new Library(NAMES)

function script<Reply>(name: (typeof NAMES)[number], options: { binary?: boolean } = {}): Script<Reply> {
  return new Script<Reply>(name, library, options)
}

/** Every script, with the type of its reply. The contract of each is the header of its file in `lua/`. */
export const scripts = {
  /** Packed decisions, see `src/store/redis/decoder.ts`. */
  admit: script<Buffer>('admit', { binary: true }),
  peek: script<Buffer>('peek', { binary: true }),
  /** Per call 1 or 0. */
  settle: script<number[]>('settle'),
  /** Per call W, P, S, R or -. */
  release: script<string[]>('release'),
  /** Redis' time, ids woken, ms until the next line can move (-1 = none waits). */
  drain: script<[nowMs: string, woken: string[], nextMs: string]>('drain'),
  /** Ids taken out of their lines. */
  expire: script<string[]>('expire'),
  tend: script<('kept' | 'unclaimed' | 'dropped' | 'gone')[]>('tend'),
  /** 1 if it was cut, then what is known. */
  announce: script<string[]>('announce'),
  /** Per call what is known. */
  upstream: script<string[][]>('upstream'),
  /** 1 if the policy was written. */
  declare: script<number>('declare'),
  /** How many meters were reset. */
  reset: script<number>('reset'),
  /** Redis' time, 1 if it was written, the state as it is now. */
  swap: script<[nowMs: string, written: number, state: string]>('swap'),
  /** How many leases were extended. */
  renew: script<number>('renew'),
  /** 1 if the lease is theirs. */
  elect: script<number>('elect'),
  /** Redis' time, then per member its name and when it is left out. */
  join: script<[nowMs: string, ...members: string[]]>('join'),
  /** 1, or 0 if it was done before. */
  absorb: script<number>('absorb'),
} as const
