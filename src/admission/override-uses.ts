import type { RuleSet } from '../policy/compile.js'
import type { CallRequest } from './request.js'

/**
 * How often overrides were used: by how many calls that started under them. This process counts in its memory, and adds its counts to those of the
 * namespace every second, and when it closes. If it dies, the counts of its last second are lost.
 */
export class OverrideUses {
  private pending = new Map<string, number>()
  private totals: Readonly<Record<string, number>> = {}

  /** A call has started. */
  count({ call, meters }: Pick<CallRequest, 'call' | 'meters'>, { overrides, overrideIndex }: RuleSet): void {
    if (overrides.length === 0) return
    const used = new Set(overrideIndex.liftingAny(call).map(({ id }) => id))
    for (const { rule } of meters) if (rule.override !== undefined) used.add(rule.override)
    for (const id of used) this.pending.set(id, (this.pending.get(id) ?? 0) + 1)
  }

  /** Whether any count of this process is not known to the others. */
  get some(): boolean {
    return this.pending.size > 0
  }

  /** The uses of an override, as far as this process knows. */
  of(id: string): number {
    return (this.totals[id] ?? 0) + (this.pending.get(id) ?? 0)
  }

  /** @param add adds counts to those of the namespace, and returns the sums. Where it fails the counts are kept for the next time */
  async sync(add: (counts: ReadonlyMap<string, number>) => Promise<Readonly<Record<string, number>>>): Promise<void> {
    const { pending } = this
    this.pending = new Map()
    try {
      this.totals = await add(pending)
    } catch (error) {
      for (const [id, count] of pending) this.pending.set(id, (this.pending.get(id) ?? 0) + count)
      throw error
    }
  }
}
