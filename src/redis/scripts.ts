import { Script } from './script.js'

/** Every script, with the type of its reply. The contract of each is the header of its file in `lua/`. */
export const scripts = {
  /** Packed decisions, see `src/gate/reply.ts`. */
  admit: new Script<Buffer>('admit', { binary: true }),
  peek: new Script<Buffer>('peek', { binary: true }),
  /** Per call 1 or 0. */
  settle: new Script<number[]>('settle'),
  /** Per call W, P, S, R or -. */
  release: new Script<string[]>('release'),
  /** Redis' time, ids woken, ms until the next line can move (-1 = none waits). */
  drain: new Script<[nowMs: string, woken: string[], nextMs: string]>('drain'),
  tend: new Script<('kept' | 'unclaimed' | 'dropped' | 'gone')[]>('tend'),
  /** Redis' time, ms until the block ends. */
  announce: new Script<[nowMs: string, blockedMs: string]>('announce'),
  /** 1 if the rules were written. */
  declare: new Script<number>('declare'),
  /** How many meters were reset. */
  reset: new Script<number>('reset'),
  /** Redis' time, 1 if it was written, the state as it is now. */
  swap: new Script<[nowMs: string, written: number, state: string]>('swap'),
  /** How many leases were extended. */
  renew: new Script<number>('renew'),
  /** 1 if the lease is theirs. */
  elect: new Script<number>('elect'),
} as const
