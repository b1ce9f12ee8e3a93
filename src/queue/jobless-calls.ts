import type { Redis } from 'ioredis'
import { DEFAULTS } from '../model/defaults.js'
import type { ScriptClient } from '../store/redis/script-client.js'
import { readRecord, releaseStored } from './stored-call.js'

/** So many calls in line are looked at in each look. */
const CALLS_AT_ONCE = 500
const LINES_AT_ONCE = 50

/**
 * Finds calls that stand in a line and have no job any more: BullMQ has removed it, or their app died before it added it. Dispatch finds such a call when
 * its turn comes; until then what it has claimed at meters that refuse (`lua/lib/pass.lua`) would turn other calls away.
 *
 * Each look goes on where the last one ended, line by line. A job that is missing may be on its way still: its call leaves the line when the job is
 * missing for `passGraceMs`. If the process dies, the next dispatcher begins anew; where two do this at once, the second finds nothing to release.
 */
export class JoblessCalls {
  /** Lines that are still to be looked at in this round, and from which place on. */
  private lines: { readonly key: string; readonly from: number }[] = []
  /** Calls whose jobs are missing, and since when. */
  private readonly missing = new Map<string, number>()
  private nextMs = 0

  constructor(
    private readonly redis: Redis,
    private readonly scriptClient: ScriptClient,
  ) {}

  /** Takes calls out of their lines whose jobs are missing for long, where it is time for a look. @returns their ids */
  async release(): Promise<string[]> {
    const nowMs = performance.now()
    if (nowMs < this.nextMs) return []
    this.nextMs = nowMs + DEFAULTS.passCheckMs
    const ids = [...new Set([...this.missing.keys(), ...(await this.next())])]
    const jobless = await this.withoutJob(ids)
    for (const id of this.missing.keys()) if (!jobless.has(id)) this.missing.delete(id)
    const left: string[] = []
    for (const id of jobless) {
      const sinceMs = this.missing.get(id) ?? nowMs
      this.missing.set(id, sinceMs)
      if (nowMs - sinceMs < DEFAULTS.passGraceMs) continue
      this.missing.delete(id)
      if (readRecord(await this.scriptClient.recordOf(id))?.state !== 'waiting') continue
      await releaseStored(this.scriptClient, id)
      left.push(id)
    }
    return left
  }

  /** The calls that this look is for. */
  private async next(): Promise<string[]> {
    if (this.lines.length === 0) this.lines = (await this.redis.zrange(this.scriptClient.keys.lines, '0', '-1')).map((key) => ({ key, from: 0 }))
    const looked = this.lines.splice(0, LINES_AT_ONCE)
    const perLine = Math.floor(CALLS_AT_ONCE / Math.max(1, looked.length))
    const found = await Promise.all(looked.map(({ key, from }) => this.redis.zrange(key, String(from), String(from + perLine - 1))))
    for (const [index, ids] of found.entries()) {
      const { key, from } = looked[index] as (typeof looked)[number]
      if (ids.length === perLine) this.lines.push({ key, from: from + perLine })
    }
    return found.flat()
  }

  private async withoutJob(ids: readonly string[]): Promise<Set<string>> {
    if (ids.length === 0) return new Set()
    const pipeline = this.redis.pipeline()
    for (const id of ids) pipeline.exists(this.scriptClient.keys.job(id))
    const replies = (await pipeline.exec()) ?? []
    return new Set(ids.filter((_, index) => replies[index]?.[0] === null && replies[index]?.[1] === 0))
  }
}
