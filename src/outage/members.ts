import { randomBytes } from 'node:crypto'
import type { Redis } from 'ioredis'
import { DEFAULTS } from '../model/defaults.js'
import type { Keys } from '../redis/keys.js'
import { scripts } from '../store/redis/scripts.js'
import type { Share } from './outage-rule.js'

/** Heard one after the other: a number that fell is believed when it was heard for as long as a silent member is counted. */
const REMEMBERED = Math.ceil(DEFAULTS.memberMs / DEFAULTS.beatMs)

/** Half of this is how far the time of Redis may be taken wrongly. */
const CLOSE_MS = 20

export interface Member {
  readonly id: string
  /** Whether it has yet to say what it used in an outage. */
  readonly owes: boolean
  /** When it said last that it is there, by Redis' clock. */
  readonly heardMs: number
}

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
  private members: readonly Member[] = []
  /** Redis' clock minus `performance.now()`: which no one sets. */
  private offsetMs = Date.now() - performance.now()

  constructor(redis: Redis, keys: Keys) {
    this.redis = redis
    this.keys = keys
  }

  /** Says that this process is there. @param owes whether it has yet to say what it used. @returns Redis' time */
  async beat(owes: boolean): Promise<number> {
    const sentMs = performance.now()
    const [nowMs, ...found] = await scripts.heartbeat.run(this.redis, [this.keys.members], ['', this.id, DEFAULTS.memberMs, owes ? 1 : 0])
    const heardMs = performance.now()
    // An answer that was kept for long says little about the time: Redis may have given it at either end.
    if (this.heard.length === 0 || heardMs - sentMs < CLOSE_MS) this.offsetMs = Number(nowMs) - (sentMs + heardMs) / 2
    const members: Member[] = []
    for (let n = 0; n + 1 < found.length; n += 2) {
      const name = found[n] as string
      members.push({ id: name.replace('~', ''), owes: name.startsWith('~'), heardMs: Number(found[n + 1]) - DEFAULTS.memberMs })
    }
    this.members = members
    const rank = members.findIndex(({ id }) => id === this.id)
    this.heard = [...this.heard, { of: Math.max(1, members.length), rank: Math.max(0, rank) }].slice(-REMEMBERED)
    return Number(nowMs)
  }

  /** Says that this process goes. */
  async leave(): Promise<void> {
    await scripts.heartbeat.run(this.redis, [this.keys.members], ['', this.id, 0, 0])
  }

  /** This process's part of every limit; all of it before it heard of others. */
  get share(): Share {
    return this.heard.reduce<Share>((most, one) => (one.of >= most.of ? one : most), { of: 1, rank: 0 })
  }

  /** The others, as last heard. */
  get others(): readonly Member[] {
    return this.members.filter(({ id }) => id !== this.id)
  }

  /**
   * Who of these is still to be waited for: was not heard since a time, or has yet to say what it
   * used. One that is gone before its time has left by itself, and owed nothing.
   */
  missing(before: readonly Member[], sinceMs: number): readonly Member[] {
    return before.filter((known) => {
      const found = this.members.find(({ id }) => id === known.id)
      if (found === undefined) return known.heardMs + DEFAULTS.memberMs <= this.nowMs()
      return found.owes || found.heardMs < sinceMs
    })
  }

  /** About Redis' time, also while it is away: whatever this machine's clock says. */
  nowMs(): number {
    return performance.now() + this.offsetMs
  }
}
