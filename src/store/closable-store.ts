import type { Asked } from '../admission/request.js'
import type { ActualCosts } from '../model/cost.js'
import type { RejectDecision, RunDecision, Usage } from '../model/decision.js'
import { TollgateError } from '../model/errors.js'
import type { Announced, Announcement, Known, Observation } from '../model/upstream.js'
import type { Admission, LedgerFigures, MaybePromise, Store, Swapped } from './store.js'

/** Is told what was reset, and what had been used. */
export type NoteReset = (asked: Asked, usage: readonly Usage[]) => void

/** A store until its Tollgate is closed: then whoever still asks is told so, whatever is behind it. */
export class ClosableStore implements Store {
  private readonly store: Store
  private readonly noteReset: NoteReset | undefined
  private closed = false

  /** @param noteReset is told of each reset; undefined where the store notes them itself */
  constructor(store: Store, noteReset?: NoteReset) {
    this.store = store
    this.noteReset = noteReset
  }

  close(): void {
    this.closed = true
  }

  admit(asked: Asked): MaybePromise<Admission> {
    return this.open().admit(asked)
  }

  peek(asked: Asked): MaybePromise<RunDecision | RejectDecision> {
    return this.open().peek(asked)
  }

  record(asked: Asked): MaybePromise<Admission> {
    return this.open().record(asked)
  }

  settle(asked: Asked, actual: ActualCosts, how: 'end' | 'part'): MaybePromise<boolean> {
    return this.open().settle(asked, actual, how)
  }

  release(asked: Asked): MaybePromise<boolean> {
    return this.open().release(asked)
  }

  announce(asked: Asked, announcement: Announcement): MaybePromise<Announced> {
    return this.open().announce(asked, announcement)
  }

  known(asked: readonly Asked[]): MaybePromise<readonly Known[]> {
    return this.open().known(asked)
  }

  observed(): MaybePromise<readonly Observation[]> {
    return this.open().observed()
  }

  /** What if the process dies between the reset and its note: then its audit is gone, too. */
  async reset(asked: Asked): Promise<void> {
    const store = this.open()
    if (this.noteReset === undefined) return store.reset(asked)
    const { usage } = await store.peek(asked)
    await store.reset(asked)
    this.noteReset(asked, usage)
  }

  swap(name: string, key: string, was: string, becomes: string, keepMs: number): MaybePromise<Swapped> {
    return this.open().swap(name, key, was, becomes, keepMs)
  }

  figures(): MaybePromise<LedgerFigures> {
    return this.open().figures()
  }

  private open(): Store {
    if (this.closed) throw new TollgateError('CLOSED', 'this Tollgate was closed')
    return this.store
  }
}
