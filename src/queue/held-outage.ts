import type { Logger } from 'pino'
import { rejection } from '../admission/rejection.js'
import type { Gate } from '../gate/gate.js'
import type { Grant } from '../gate/grant.js'
import type { Call } from '../model/call.js'
import type { RejectDecision, RunDecision } from '../model/decision.js'
import { TollgateError } from '../model/errors.js'
import { LONGEST_TIMER_MS } from '../model/time.js'
import { usageOfResult } from '../pricing/usage.js'
import { onAbort } from '../redis/bounded-wait.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { traceHeaders } from '../telemetry/tracing.js'
import { refusalOf } from '../upstream/refusals.js'
import type { UpstreamTracker } from '../upstream/tracker.js'
import type { CallContext } from './handler.js'
import type { HeldHandler, RunOptions } from './held-calls.js'

/** How often it is looked whether Redis is back, while calls wait without it. */
const LOOK_MS = 250
/** The reason for which a call ends its wait without Redis: it waits in the lines of the namespace from now on. */
export const BACK = new Error('Redis is back')

export interface HeldOutageParts {
  readonly gate: Pick<Gate, 'peek' | 'acquire'>
  readonly tracker: Pick<UpstreamTracker, 'observe'>
  readonly scriptClient: ScriptClient
  readonly log: Logger
  /** Whether Redis is out of reach now. */
  readonly gone: () => boolean
}

/**
 * Held calls that come while Redis is away. `onStoreError` decides, of the option or of the rule, as for `gate.admit`: `closed` refuses the call,
 * `open` lets it run, `local` lets it run within the share of this process, and where that is used up the call waits in this process.
 *
 *     come ── closed, or a strategy that does not wait ──▶ refused
 *      │ room                       │ no room
 *      ▼                            ▼
 *     running ◀── room ── waiting here ── Redis is back ──▶ waits in line (HeldCalls)
 *
 * What runs is charged in the journal of the outage, and settled there or, once Redis is back, in Redis. If the process dies, that is lost as of any
 * call of an outage. Where its agent refuses such a call, its charge goes back, and its caller is told: there is no line to return to.
 */
export class HeldOutage {
  /** By call, what ends its wait. */
  private readonly waits = new Set<(reason: unknown) => void>()
  private readonly running = new Set<Promise<unknown>>()
  private looks: NodeJS.Timeout | undefined

  constructor(private readonly parts: HeldOutageParts) {}

  get size(): number {
    return this.waits.size + this.running.size
  }

  /** @returns what the handler returns; BACK where Redis is back before the call has started. @throws as `HeldCalls.run` */
  async run<T>(id: string, call: Call, handler: HeldHandler<T>, options: RunOptions): Promise<T | typeof BACK> {
    let grant: Grant
    try {
      grant = await this.admit(id, call, options)
    } catch (error) {
      if (error === BACK) return BACK
      throw error
    }
    const made = this.make(id, call, handler, grant).finally(() => this.running.delete(made))
    this.running.add(made)
    return made
  }

  /** Sends calls that wait away, and waits for those that run. */
  async close(error: Error): Promise<void> {
    for (const leave of this.waits) leave(error)
    await Promise.allSettled(this.running)
  }

  private async admit(id: string, call: Call, { signal, waiting }: RunOptions): Promise<Grant> {
    const { gate } = this.parts
    const { decision } = await gate.peek(call)
    if (decision.outcome === 'reject' && !this.isWaitedFor(decision, call)) throw rejection(decision)
    const controller = new AbortController()
    const leave = (reason: unknown) => controller.abort(reason)
    const leaveSignal = signal === undefined ? undefined : onAbort(signal, () => leave(signal.reason))
    const late = setTimeout(() => leave(new TollgateError('CALL_EXPIRED', 'the deadline of the call passed before it could start')), patienceOf(call))
    this.waits.add(leave)
    this.looks ??= setInterval(() => this.look(), LOOK_MS)
    if (decision.outcome === 'reject') waiting?.(id, leave)
    try {
      return await gate.acquire(call, { signal: controller.signal })
    } finally {
      clearTimeout(late)
      leaveSignal?.()
      this.waits.delete(leave)
      if (this.waits.size === 0) {
        clearInterval(this.looks)
        this.looks = undefined
      }
    }
  }

  /** As in the lines: a call waits for room where the strategy is to wait. */
  private isWaitedFor({ reason, binding }: RejectDecision, call: Call): boolean {
    if (reason === 'paused') return true
    const rule = this.parts.scriptClient.resolver.rules.specs.find(({ name }) => name === binding.rule)
    const strategy = call.strategy ?? rule?.strategy
    return reason === 'limited' && strategy !== 'hard' && strategy !== 'retry_after'
  }

  private look(): void {
    if (!this.parts.gone()) for (const leave of this.waits) leave(BACK)
  }

  private async make<T>(id: string, call: Call, handler: HeldHandler<T>, grant: Grant): Promise<T> {
    const controller = new AbortController()
    const context: CallContext = {
      traceHeaders: traceHeaders(),
      id,
      job: undefined,
      attempt: 1,
      decision: grant.decision as RunDecision,
      degraded: false,
      degradeTo: undefined,
      signal: controller.signal,
      settlePart: async (usage) => void (await grant.settlePart(usage)),
      observe: (headers) => this.parts.tracker.observe(call, headers),
    }
    try {
      const result = await handler(call, context)
      await this.end(id, () => grant.settle(usageOfResult(result)))
      return result
    } catch (error) {
      const refused = refusalOf(error) !== undefined
      await this.end(id, () => (refused ? grant.release() : grant.settle(usageOfResult(error))))
      throw error
    }
  }

  /** What cannot be settled stays charged as its estimate. */
  private async end(id: string, how: () => Promise<boolean>): Promise<void> {
    try {
      await how()
    } catch (error) {
      this.parts.log.error({ err: error, call: id }, 'a held call could not be settled; its estimate stays charged')
    }
  }
}

function patienceOf({ maxWaitMs = LONGEST_TIMER_MS, deadline }: Call): number {
  const untilDeadlineMs = deadline === undefined ? LONGEST_TIMER_MS : new Date(deadline).getTime() - Date.now()
  return Math.max(0, Math.min(maxWaitMs, untilDeadlineMs, LONGEST_TIMER_MS))
}
