import type { Logger } from 'pino'
import { DEFAULTS } from '../config/defaults.js'
import type { Asked, Gate } from '../gate/gate.js'

/** Keeps the concurrency slots of this process's running calls; they end by themselves when it dies. */
export class Heartbeat {
  private readonly gate: Gate
  private readonly log: Logger
  private readonly running = new Set<Asked>()
  private timer: NodeJS.Timeout | undefined
  private beating: Promise<unknown> = Promise.resolve()

  constructor(gate: Gate, log: Logger) {
    this.gate = gate
    this.log = log
  }

  add(asked: Asked): void {
    if (!asked.demand.parts.some(({ rule }) => rule.hasLeases)) return
    this.running.add(asked)
    this.timer ??= setInterval(() => {
      this.beating = this.beat().catch((error: unknown) => this.log.error({ err: error }, 'slots could not be renewed'))
    }, DEFAULTS.slotLeaseMs / 3)
  }

  remove(asked: Asked): void {
    this.running.delete(asked)
  }

  async close(): Promise<void> {
    clearInterval(this.timer)
    await this.beating
  }

  private async beat(): Promise<void> {
    const leases = new Map<string, string[]>()
    for (const { id, demand } of this.running) {
      for (const { rule, keys } of demand.parts) {
        const key = keys[2]
        if (!rule.hasLeases || key === undefined) continue
        const ids = leases.get(key) ?? []
        ids.push(id)
        leases.set(key, ids)
      }
    }
    if (leases.size > 0) await this.gate.renew(leases)
  }
}
