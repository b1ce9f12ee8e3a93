import type { ChargedFact } from '../oracles/facts.js'
import type { SimProcess } from '../world/process.js'
import { hashOf } from '../world/random.js'
import type { Done } from '../world/redis.js'
import type { Fleet } from './fleet.js'

/** Commands that charge. */
const CHARGES: ReadonlySet<string> = new Set(['start', 'check'])
/** A decision tells its time in ms, rounded. */
const ROUNDING_MS = 0.5

/** Commands that charge and that Redis did twice: a reply was lost, and the client sent its command again. */
export class RepeatedCharges {
  private readonly firstMs = new Map<string, number>()
  private readonly again = new Map<string, { readonly firstMs: number; readonly againMs: number }[]>()

  note({ command, name }: Done, atMs: number): void {
    if (!CHARGES.has(name)) return
    const process = command.connection.process.name
    const key = `${process} ${hashOf(command.bytes)}`
    const firstMs = this.firstMs.get(key)
    if (firstMs === undefined) this.firstMs.set(key, atMs)
    else this.again.set(process, [...(this.again.get(process) ?? []), { firstMs, againMs: atMs }])
  }

  /** When Redis first did the command of a process that it did again at this time. */
  firstOf(process: string, atMs: number): number | undefined {
    return this.again.get(process)?.find(({ againMs }) => Math.abs(againMs - atMs) <= ROUNDING_MS)?.firstMs
  }
}

/** @param charge its time as the decision says it, by Redis' clock */
export function noteCharged(fleet: Fleet, { name }: SimProcess, charge: Omit<ChargedFact, 'fact' | 'firstMs'>): void {
  const atMs = fleet.redis.trueMs(charge.atMs)
  const firstMs = fleet.repeated.firstOf(name, atMs)
  fleet.note({ fact: 'charged', ...charge, atMs, ...(firstMs === undefined ? {} : { firstMs }) })
}
