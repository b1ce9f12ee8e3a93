import { pino } from 'pino'
import { onTestFinished } from 'vitest'
import { type GivenClock, MemoryStore, Tollgate, type TollgateOptions } from '../../src/index.js'
import { newNamespace } from './namespace.js'

/** The stores that a test runs on: what holds of one holds of the other. */
export const PLACES = ['Redis', 'memory'] as const
export type PlaceName = (typeof PLACES)[number]

/** Opens Tollgates that share their limits: in a namespace of the tests' Redis, or in one store in memory. */
export interface Place {
  open(options?: TollgateOptions): Promise<Tollgate>
}

/** @param clock stands still until a test moves it; default: the clock of the store */
export function newPlace(name: PlaceName, clock?: GivenClock): Place {
  const given = clock === undefined ? {} : { clock }
  if (name === 'Redis') {
    const namespace = newNamespace()
    return { open: (options) => namespace.open({ ...given, ...options }) }
  }
  const store = new MemoryStore(clock === undefined ? undefined : () => clock.nowMs)
  return {
    open: async (options) => {
      const tollgate = await Tollgate.open({ store, logger: pino({ level: 'silent' }), ...given, ...options })
      onTestFinished(() => tollgate.close())
      return tollgate
    },
  }
}

/** What a limit of a Tollgate's rules has used for a call, by the limit's name. */
export async function usedBy(tollgate: Tollgate, call: Parameters<Tollgate['gate']['peek']>[0], limit?: string): Promise<number | undefined> {
  const { usage } = await tollgate.gate.peek(call)
  return usage.find((one) => limit === undefined || one.limit === limit)?.used
}

/** The code of the error that a promise rejects with. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'no error',
    (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : String(error)),
  )
}
