import { GivenClock } from '../src/model/time.js'
import type { Store } from '../src/store/store.js'
import type { Case } from './account.js'
import { ledgerCases } from './ledger-cases.js'
import { limitCases } from './limit-cases.js'
import { slotCases } from './slot-cases.js'
import { upstreamCases } from './upstream-cases.js'

/** A store for one case, empty. */
export interface OpenStore {
  readonly store: Store
  /** The namespace in the keys of the requests, for a store that uses these keys; default "contract". */
  readonly namespace?: string
  close?(): Promise<void>
}

/** A Thursday, at a border of every window that the cases use. */
const START_MS = 1_800_000_000_000

const CASES: readonly Case[] = [...limitCases, ...slotCases, ...ledgerCases, ...upstreamCases]

/**
 * What every store must do, for any test runner:
 *
 *     for (const { name, run } of storeContract(open)) test(name, run)
 *
 * @param open opens an empty store that goes by the given clock; only the cases move that clock
 */
export function storeContract(open: (clock: GivenClock) => Promise<OpenStore>): { readonly name: string; run(): Promise<void> }[] {
  return CASES.map(({ name, check }) => ({
    name,
    async run() {
      const clock = new GivenClock(START_MS)
      const { store, namespace, close } = await open(clock)
      try {
        await check({ store, clock, namespace })
      } finally {
        await close?.()
      }
    },
  }))
}
