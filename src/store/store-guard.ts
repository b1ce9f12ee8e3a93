import type { AdmissionRequest } from '../admission/request.js'
import type { Usage } from '../model/decision.js'
import { TollgateError } from '../model/errors.js'
import type { MaybePromise, Store } from './store.js'

type Arguments = { [Method in keyof Store]: Parameters<Store[Method]> }
type Answers = { [Method in keyof Store]: Awaited<ReturnType<Store[Method]>> }

/** The methods of a store, as TypeScript can follow one of them that is known by its name only. */
export type StoreMethods = { [Method in keyof Store]: (...args: Arguments[Method]) => MaybePromise<Answers[Method]> }

/** What happens in place of each call of a store: usually something around that call. */
export type StoreGuard = <Method extends keyof Store>(method: Method, args: Arguments[Method]) => MaybePromise<Answers[Method]>

/** A store each of whose methods is its guard. An answer that the guard has at once is not made a promise. */
export function storeGuardedBy(guard: StoreGuard): Store {
  const guarded =
    <Method extends keyof Store>(method: Method) =>
    (...args: Arguments[Method]) =>
      guard(method, args)
  return {
    admit: guarded('admit'),
    peek: guarded('peek'),
    record: guarded('record'),
    settle: guarded('settle'),
    release: guarded('release'),
    reset: guarded('reset'),
    figures: guarded('figures'),
    reportUpstream: guarded('reportUpstream'),
    upstreamStatus: guarded('upstreamStatus'),
    observations: guarded('observations'),
    compareAndSet: guarded('compareAndSet'),
  }
}

export const STORE_METHODS = Object.keys(storeGuardedBy(() => Promise.reject(new Error('a guard of no store')))) as readonly (keyof Store)[]

/** Is told what was reset, by whom, and what had been used; of a block how long it would have lasted. */
export type NoteReset = (request: AdmissionRequest, before: readonly Usage[] | { readonly blockedMs: number; readonly factor: number }, by?: string) => void

export interface ClosableStore extends Store {
  /** From now on every method throws CLOSED. */
  close(): void
}

/** @param noteReset is told of each reset; undefined where the store notes them itself */
export function closableStore(store: StoreMethods, noteReset: NoteReset | undefined): ClosableStore {
  let closed = false
  const whileOpen: StoreGuard = (method, args) => {
    if (closed) throw new TollgateError('CLOSED', 'this Tollgate was closed')
    return store[method](...args)
  }
  const guarded = storeGuardedBy(whileOpen)
  return {
    ...guarded,
    /** If the process dies between the reset and its note, the audit in its memory is gone, too. */
    async reset(request, by) {
      if (noteReset === undefined) return guarded.reset(request, by)
      const isBlock = request.meters[0]?.rule.kind === 'upstream'
      const [block] = isBlock ? await guarded.upstreamStatus([request]) : []
      const before =
        block === undefined ? (await guarded.peek(request)).usage : { blockedMs: Math.max(0, block.blockedUntilMs - block.atMs), factor: block.factor }
      await guarded.reset(request)
      noteReset(request, before, by)
    },
    close() {
      closed = true
    },
  }
}
