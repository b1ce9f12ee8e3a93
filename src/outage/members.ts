import { randomBytes } from 'node:crypto'
import type { Redis } from 'ioredis'
import { DEFAULTS } from '../config/defaults.js'
import type { Keys } from '../redis/keys.js'
import { scripts } from '../redis/scripts.js'
import type { Share } from './share.js'

/** Heard one after the other: a number that fell is believed when it was heard for as long as a silent member is counted. */
const REMEMBERED = Math.ceil(DEFAULTS.memberMs / DEFAULTS.beatMs)

/**
 * The processes that have the namespace open, as this one knows them: it says every second that
 * it is there, and hears who else is. In an outage the last it heard counts.
 *
 * A number too high makes shares too small, one too low makes them too large. So a process that
 * falls silent is counted for ten seconds more, and after a Redis came back empty, where the
 * first to say so hears of itself alone, the highest number of the last ten counts.
 */
export class Members {
  private readonly redis: Redis
  private readonly keys: Keys
  private readonly id = randomBytes(9).toString('base64url')
  private heard: Share[] = []
  /** Redis' clock minus `performance.now()`: which no one sets. */
  private offsetMs = Date.now() - performance.now()

  constructor(redis: Redis, keys: Keys) {
    this.redis = redis
    this.keys = keys
  }

  /** Says that this process is there. */
  async beat(): Promise<void> {
    const sentMs = performance.now()
    const [nowMs, ...members] = await scripts.join.run(this.redis, [this.keys.members], ['', this.id, DEFAULTS.memberMs])
    this.offsetMs = Number(nowMs) - (sentMs + performance.now()) / 2
    this.heard = [...this.heard, { of: Math.max(1, members.length), rank: Math.max(0, members.indexOf(this.id)) }].slice(-REMEMBERED)
  }

  /** Says that this process goes. */
  async leave(): Promise<void> {
    await scripts.join.run(this.redis, [this.keys.members], ['', this.id, 0])
  }

  /** This process's part of every limit; all of it before it heard of others. */
  get share(): Share {
    return this.heard.reduce<Share>((most, one) => (one.of >= most.of ? one : most), { of: 1, rank: 0 })
  }

  /** About Redis' time, also while it is away: whatever this machine's clock says. */
  nowMs(): number {
    return performance.now() + this.offsetMs
  }
}
