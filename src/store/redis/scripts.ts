import { LUA_TEXT } from '../../redis/lua-text.js'
import { Library, Script, type ScriptOptions } from '../../redis/script.js'
import { LUA_CONSTANTS } from './protocol.js'

/** Every file of `lua/` is a script; those of its folders are included by them. */
const NAMES = Object.keys(LUA_TEXT)
  .filter((path) => !path.includes('/'))
  .map((path) => path.replace(/\.lua$/, ''))
export const library = new Library(NAMES.sort(), LUA_CONSTANTS)

function script<Reply>(name: string, options: ScriptOptions = {}): Script<Reply> {
  return new Script<Reply>(name, library, options)
}

/** What a call held: W a place in line, P a pass, S a charge, - nothing; R: another call has its id, or it runs under another token, and keeps what it holds. */
export type Held = 'W' | 'P' | 'S' | 'R' | 'A' | '-'

/** What became of a pass that has not started. */
export type PassOutcome = 'kept' | 'unclaimed' | 'dropped' | 'gone'

/** Every script, with the type of its reply. The contract of each is the header of its file in `lua/`. */
export const scripts = {
  /** Packed decisions, see `decoder.ts`; so are the next five. */
  check: script<Buffer>('check', { binary: true, replicated: true }),
  peek: script<Buffer>('peek', { binary: true }),
  explain: script<Buffer>('explain', { binary: true }),
  enqueue: script<Buffer>('enqueue', { binary: true }),
  start: script<Buffer>('start', { binary: true, replicated: true }),
  record: script<Buffer>('record', { binary: true, replicated: true }),
  /** Packed, see `SumsReply`. */
  checkSums: script<Buffer>('check-sums', { binary: true, replicated: true }),
  startSums: script<Buffer>('start-sums', { binary: true, replicated: true }),
  /** Per call 1 if it was settled, 2 if its id is that of another call, else 0. */
  settle: script<number[]>('settle'),
  release: script<Held[]>('release'),
  /** Redis' time, ids woken, ms until the next line can move (-1 = none waits), those woken without a claim, ids dropped for want of a job. */
  dispatch:
    script<
      [
        nowMs: string,
        woken: string[],
        nextMs: string,
        unclaimed: string[],
        dropped: string[],
        looks: [left: number, ended: number][],
        moved: [id: string, line: string][],
      ]
    >('dispatch'),
  /** JSON, see `FinishBatcher`; '' for a queue that it is not for. */
  finish: script<string>('finish'),
  /** A letter per job: 1 = promoted, 0 = it is not delayed. */
  promote: script<string>('promote'),
  /** Ids taken out of their lines. */
  expire: script<string[]>('expire'),
  reconcilePasses: script<PassOutcome[]>('reconcile-passes'),
  /** 1 if the factor was cut, what the refusal says, and what becomes of its call; then what is known of the agent. */
  reportUpstream: script<string[]>('report-upstream'),
  /** 1 if it was noted. */
  keepReturns: script<number>('keep-returns'),
  /** Per call what is known of its agent. */
  upstreamStatus: script<string[][]>('upstream-status'),
  /** 1 if the policy was written. */
  writePolicy: script<number>('write-policy', { replicated: true }),
  /** How many meters were reset. */
  reset: script<number>('reset'),
  /** Redis' time, 1 if it was written, the state as it is now. */
  compareAndSet: script<[nowMs: string, written: number, state: string]>('compare-and-set'),
  /** The names of starts that hold no slot any more. */
  renew: script<string[]>('renew'),
  /** 1 if the dispatcher holds the lease. */
  lease: script<number>('lease'),
  /** 1 if the line of its queue is looked at. */
  reportPlaces: script<number>('report-places'),
  /** Redis' time, then per process its id and when it is left out. */
  heartbeat: script<[nowMs: string, ...members: string[]]>('heartbeat'),
  /** Names that left a top list, each after the place of the list, counted from 1. */
  addHistory: script<(number | string)[]>('add-history'),
  /** How many jobs were there. */
  noteEvents: script<number>('note-events'),
  /** The answers of an algorithm, see `compareTrials`. */
  tryAlgorithm: script<string[]>('try-algorithm'),
  /** 1, or 0 if it was done before. */
  mergeUsage: script<number>('merge-usage'),
} as const
