import type { Logger } from 'pino'
import type { AdmissionRequest } from '../admission/request.js'
import type { ScriptClient } from '../store/redis/script-client.js'

/** Signs of life per lease: one may be lost, and one more. */
const BEATS_PER_LEASE = 3

interface Slot {
  readonly key: string
  readonly leaseMs: number
}

/** The concurrency slots that a call holds while it runs. */
function slotsOf(request: AdmissionRequest): Slot[] {
  return request.meters.flatMap(({ rule, keys }) => {
    const index = rule.keyed.findIndex(({ unit }) => unit === 'concurrency')
    const limit = rule.keyed[index]
    return limit === undefined ? [] : [{ key: keys[1 + index] as string, leaseMs: limit.leaseMs }]
  })
}

/** Keeps the concurrency slots of this process's running calls; they end by themselves when it dies. */
export class Heartbeat {
  private readonly scriptClient: ScriptClient
  private readonly log: Logger
  private readonly running = new Map<AdmissionRequest, Slot[]>()
  private timer: NodeJS.Timeout | undefined
  private everyMs = Number.POSITIVE_INFINITY
  private beating: Promise<unknown> = Promise.resolve()

  constructor(scriptClient: ScriptClient, log: Logger) {
    this.scriptClient = scriptClient
    this.log = log
  }

  add(request: AdmissionRequest): void {
    const slots = slotsOf(request)
    if (slots.length === 0) return
    this.running.set(request, slots)
    const everyMs = Math.min(...slots.map(({ leaseMs }) => leaseMs)) / BEATS_PER_LEASE
    if (everyMs >= this.everyMs) return
    this.everyMs = everyMs
    clearInterval(this.timer)
    this.timer = setInterval(() => {
      this.beating = this.beat().catch((error: unknown) => this.log.error({ err: error }, 'slots could not be renewed'))
    }, everyMs)
  }

  remove(request: AdmissionRequest): void {
    this.running.delete(request)
  }

  /** @param force does not wait for a beat that is under way */
  async close(force = false): Promise<void> {
    clearInterval(this.timer)
    if (!force) await this.beating
  }

  private async beat(): Promise<void> {
    const leases = new Map<string, { leaseMs: number; ids: string[] }>()
    for (const [{ id }, slots] of this.running) {
      for (const { key, leaseMs } of slots) {
        const lease = leases.get(key) ?? { leaseMs, ids: [] }
        lease.ids.push(id)
        leases.set(key, lease)
      }
    }
    if (leases.size > 0) await this.scriptClient.renew(leases)
  }
}
