import { randomBytes } from 'node:crypto'
import type { Redis } from 'ioredis'
import { DEFAULTS } from '../model/defaults.js'
import type { Keys } from '../redis/keys.js'
import { scripts } from '../store/redis/scripts.js'
import type { Share } from './outage-rule.js'

/** Counts that are kept; the share goes by the highest, so a lower count takes effect after `memberMs`. */
const REMEMBERED = Math.ceil(DEFAULTS.memberMs / DEFAULTS.beatMs)

/** An answer that took less tells Redis' time, with an error of half of this at most. */
const CLOSE_MS = 20

export interface Member {
  readonly id: string
  /** Whether it has yet to report what it used in an outage. */
  readonly reports: boolean
  /** When it said last that it is there, by Redis' clock. */
  readonly heardMs: number
}

/**
 * The processes that have the namespace open, as this process knows them: every second it says that
 * it is there, and hears which others are. In an outage the last number that it heard counts.
 *
 * A number too high makes shares too small, a number too low makes them too large. So a process that falls silent is counted for ten seconds more.
 * After a Redis has come back empty the first process hears of itself alone: so the highest number of the last ten counts.
 *
 * If the process dies, the others count it for those ten seconds, and their shares are too small.
 */
export class Members {
  private readonly id = randomBytes(9).toString('base64url')
  private heard: Share[] = []
  private members: readonly Member[] = []
  /** Redis' clock minus `performance.now()`, which the machine's clock does not move. */
  private offsetMs = Date.now() - performance.now()

  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
    /** How many processes there are taken to be before Redis has said it. */
    private readonly expected = 1,
  ) {}

  /** Says that this process is there. @param reports whether it has yet to report what it used. @returns Redis' time */
  async beat(reports: boolean): Promise<number> {
    const sentMs = performance.now()
    const [nowMs, ...found] = await scripts.heartbeat.run(this.redis, [this.keys.members, this.keys.pulse], ['', this.id, DEFAULTS.memberMs, reports ? 1 : 0])
    const heardMs = performance.now()
    // An answer that took long tells little about the time: Redis may have given it at either end.
    if (this.heard.length === 0 || heardMs - sentMs < CLOSE_MS) this.offsetMs = Number(nowMs) - (sentMs + heardMs) / 2
    const members: Member[] = []
    for (let n = 0; n + 1 < found.length; n += 2) {
      const name = found[n] as string
      members.push({ id: name.replace('~', ''), reports: name.startsWith('~'), heardMs: Number(found[n + 1]) - DEFAULTS.memberMs })
    }
    this.members = members
    const rank = members.findIndex(({ id }) => id === this.id)
    this.heard = [...this.heard, { of: Math.max(1, members.length), rank: Math.max(0, rank) }].slice(-REMEMBERED)
    return Number(nowMs)
  }

  async leave(): Promise<void> {
    await scripts.heartbeat.run(this.redis, [this.keys.members, this.keys.pulse], ['', this.id, 0, 0])
  }

  /** This process's part of every limit. Before it heard of others it is one of as many as are expected, with the smallest share of them. */
  get share(): Share {
    return this.heard.reduce<Share>(
      (most, one) => (one.of >= most.of ? one : most),
      this.heard.length > 0 ? { of: 1, rank: 0 } : { of: this.expected, rank: this.expected - 1 },
    )
  }

  get others(): readonly Member[] {
    return this.members.filter(({ id }) => id !== this.id)
  }

  /**
   * Which of these processes are still to be waited for: those that were heard since a time and have yet to report, and, if they are awaited, those
   * that were not heard. A process that is gone before its time has left by itself, with nothing to report.
   */
  missing(before: readonly Member[], sinceMs: number, awaitsUnheard: boolean): readonly Member[] {
    return before.filter((known) => {
      const found = this.members.find(({ id }) => id === known.id)
      if (found === undefined) return awaitsUnheard && known.heardMs + DEFAULTS.memberMs <= this.nowMs()
      return found.heardMs < sinceMs ? awaitsUnheard : found.reports
    })
  }

  /** About Redis' time, also while it is away: whatever this machine's clock says. */
  nowMs(): number {
    return performance.now() + this.offsetMs
  }
}
