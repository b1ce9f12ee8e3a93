import type { Redis } from 'ioredis'
import { type AdmissionRequest, blockPlace, type CallRequest } from '../../admission/request.js'
import type { Resolver } from '../../admission/resolver.js'
import { approximateMs, type Clock } from '../../model/time.js'
import { type UpstreamOutcome, type UpstreamReport, type UpstreamStatus, upstreamKey } from '../../model/upstream.js'
import type { Keys } from '../../redis/keys.js'
import { readUpstreamStatus } from './decoder.js'
import { BatchEncoder, ratesOf } from './encoder.js'
import { REFUSAL } from './protocol.js'
import { scripts } from './scripts.js'
import { storedCall } from './sending.js'

/** A call that its agent refused, on its way back. */
interface Returning {
  readonly request: CallRequest
  readonly maxReturns: number
  readonly keepsLine: boolean
}

/** What became of a call that its agent refused. */
export interface ReturnOutcome extends UpstreamOutcome {
  /** blocks: the refusal is the agent's, for all calls. stale: it is older than what is known of the agent. alone: the agent takes other calls. */
  readonly refusal: 'blocks' | 'stale' | 'alone'
  /** Ms until the next try of the call. */
  readonly waitMs: number
  readonly returns: number
  /** Whether it was refused too often, and is not tried again. */
  readonly over: boolean
  /** Of a call without a job: what its job is to keep of its returns; else ''. */
  readonly unkept: string
}

/** The scripts about what agents say. */
export class UpstreamScripts {
  readonly keys: Keys

  constructor(
    protected readonly redis: Redis,
    readonly resolver: Resolver,
    readonly clock: Clock,
  ) {
    this.keys = resolver.keys
  }

  /** An agent said something about its limits; a call that stands open is given back. */
  async reportUpstream(request: AdmissionRequest, report: UpstreamReport): Promise<UpstreamOutcome> {
    const [cut, , , , , , ...status] = await this.sendReport(this.encode([request], false), request, report)
    return { cut: cut === '1', ...readUpstreamStatus(status) }
  }

  /**
   * An agent refused the call of a worker: it is given back, and waits for its next try, unless it was refused too often.
   * @param maxReturns how often the call may return @param keepsLine false: it waits nowhere, and its job comes back as that of a new call
   */
  async returnCall(request: CallRequest, report: UpstreamReport, maxReturns: number, keepsLine = true): Promise<ReturnOutcome> {
    const back = { request, maxReturns, keepsLine }
    const [cut, kind, waitMs, returns, over, unkept = '', ...status] = await this.sendReport(this.encode([request], true), request, report, back)
    const why = { [REFUSAL.BLOCKS]: 'blocks', [REFUSAL.BESIDE]: 'blocks', [REFUSAL.STALE]: 'stale', [REFUSAL.ALONE]: 'alone' } as const
    const refusal = why[Number(kind) as keyof typeof why]
    return { cut: cut === '1', refusal, waitMs: Number(waitMs), returns: Number(returns), over: over === '1', unkept, ...readUpstreamStatus(status) }
  }

  /** Notes the returns of a call in its job, which was added after its first refusal. A job that has ended meanwhile is not made anew. */
  async keepReturns(id: string, returns: string): Promise<void> {
    await scripts.keepReturns.run(this.redis, [this.keys.job(id)], [returns])
  }

  private sendReport(encoder: BatchEncoder, request: AdmissionRequest, report: UpstreamReport, back?: Returning): Promise<string[]> {
    const { kind, retryAfterMs, reduceFactor, observed, name } = report
    const noted = observed !== null || kind === 'refused'
    const observation = noted ? JSON.stringify({ name, limits: observed ?? {}, atMs: Math.round(approximateMs(this.clock)) }) : ''
    const details = [kind, reduceFactor, JSON.stringify(ratesOf(observed)), observation, upstreamKey(name), observed === null ? 0 : 1]
    const keys = [...encoder.keys]
    const observedAt = keys.push(this.keys.upstream)
    if (back !== undefined) keys.push(this.keys.ownLine(request.id), this.keys.job(request.id))
    const stored = back?.keepsLine === true ? storedCall(back.request) : ''
    const args = [this.now(), encoder.batch(), blockPlace(request), retryAfterMs, stored, ...details, observedAt, back?.maxReturns ?? '']
    return scripts.reportUpstream.run(this.redis, keys, args)
  }

  async upstreamStatus(requests: readonly AdmissionRequest[]): Promise<UpstreamStatus[]> {
    const encoder = this.encode(requests, false)
    const statuses = await scripts.upstreamStatus.run(this.redis, encoder.keys, [this.now(), encoder.batch()])
    return statuses.map(readUpstreamStatus)
  }

  protected encode(requests: readonly AdmissionRequest[], onTheirWay: boolean): BatchEncoder {
    const encoder = new BatchEncoder(this.keys, approximateMs(this.clock))
    for (const one of requests) encoder.force(one, onTheirWay)
    return encoder
  }

  protected now(): string {
    return this.clock.forScripts()
  }
}
