import type { Logger } from 'pino'
import type { AdmissionRequest } from '../admission/request.js'
import { withoutArguments } from '../model/secrets.js'
import { type ScriptClient, slotsOf } from '../store/redis/script-client.js'

/** Renewals per lease: after an outage of half a lease a slot has a part of its lease left. */
const RENEWALS_PER_LEASE = 4
/** A renewal that Redis refuses is sent again after this; several times within the time in which no slot is given after an outage. */
const AGAIN_MS = 400

/**
 * Renews the leases of the concurrency slots of a worker's calls while their handlers go on, also when their callers were answered before. A slot is
 * held under the name of its start, so a worker that stood still renews nothing of another attempt of the same call.
 *
 * If the process dies, the leases end by themselves. If Redis is away for longer than a lease, the slots have ended when it is back: then they are
 * renewed as soon as this process is connected, before Redis gives slots again (`lua/lib/pulse.lua`). A slot that was taken by then is lost: the call
 * goes on without it, and takes one again when one is free.
 */
export class SlotLeases {
  private readonly held = new Set<AdmissionRequest>()
  private timer: NodeJS.Timeout | undefined
  private everyMs = Number.POSITIVE_INFINITY
  private renewal: Promise<unknown> | undefined
  private closed = false
  /** Whether the last renewal was refused: of several in a row the first is logged. */
  private refused = false

  constructor(
    private readonly scriptClient: ScriptClient,
    private readonly log: Logger,
  ) {}

  add(request: AdmissionRequest): void {
    const slots = slotsOf(request)
    if (slots.length === 0) return
    this.held.add(request)
    const everyMs = Math.min(...slots.map(({ limit }) => limit.leaseMs / RENEWALS_PER_LEASE))
    if (this.timer !== undefined && everyMs >= this.everyMs) return
    this.everyMs = everyMs
    this.renewAfter(everyMs)
  }

  remove(request: AdmissionRequest): void {
    this.held.delete(request)
  }

  /** @param force does not wait for a renewal that is under way */
  async close(force = false): Promise<void> {
    this.closed = true
    clearTimeout(this.timer)
    if (force) return
    await this.renewal
    const calls = [...this.held].map(({ id }) => id)
    if (calls.length > 0) this.log.warn({ calls }, 'handlers of calls that were ended go on while their worker closes; their slots end with their leases')
  }

  private renewAfter(ms: number): void {
    clearTimeout(this.timer)
    this.timer = undefined
    if (!this.closed) this.timer = setTimeout(() => this.renewNow(), ms)
  }

  /** Is called when the connection is back, too: slots that ended meanwhile are taken back before others get them. */
  renewNow(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    if (this.closed || this.held.size === 0) return
    this.renewAfter(this.everyMs)
    // A renewal that was not answered yet is executed when Redis is back.
    if (this.renewal !== undefined) return
    this.renewal = this.renew().finally(() => {
      this.renewal = undefined
    })
  }

  private async renew(): Promise<void> {
    try {
      const lost = await this.scriptClient.renew([...this.held])
      this.refused = false
      const running = lost.filter((request) => this.held.has(request))
      if (running.length > 0) this.log.warn({ calls: running.map(({ id }) => id) }, 'slots of running calls are taken by others; the calls go on')
    } catch (error) {
      if (!this.refused) this.log.error({ err: withoutArguments(error) }, 'slots could not be renewed; it is tried again')
      this.refused = true
      this.renewAfter(Math.min(AGAIN_MS, this.everyMs))
    }
  }
}
