import { createHash } from 'node:crypto'
import { EPOCH_MS } from './server.js'

export interface JournalLine {
  readonly atMs: number
  /** The process, or '' for what concerns all. */
  readonly who: string
  readonly text: string
  /** Whole command and reply, where they are kept for the story of one call. */
  readonly detail?: string
}

/**
 * What happened, line by line. The hash covers every line, so two runs that have the same hash were the same, command by command and reply by reply.
 * @param keep how many of the last lines are kept; Infinity for all
 */
export class Journal {
  private readonly hash = createHash('sha256')
  private lines: JournalLine[] = []

  constructor(
    private readonly keep: number,
    /** Whether lines are kept with whole commands and replies. */
    readonly keepsDetails = false,
  ) {}

  write(atMs: number, who: string, text: string, detail?: string): void {
    this.hash.update(`${atMs.toFixed(3)} ${who} ${text}\n`)
    if (this.keep === 0) return
    this.lines.push(detail === undefined ? { atMs, who, text } : { atMs, who, text, detail })
    if (this.lines.length > 2 * this.keep) this.lines = this.lines.slice(-this.keep)
  }

  digest(): string {
    return this.hash.copy().digest('hex').slice(0, 16)
  }

  /** The lines between two times, at most so many: the last ones. */
  around(fromMs: number, toMs: number, most: number): JournalLine[] {
    return this.lines.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs).slice(-most)
  }

  all(): readonly JournalLine[] {
    return this.lines
  }
}

/** Seconds since the beginning, as the journal shows them. */
export function seconds(atMs: number): string {
  return ((atMs - EPOCH_MS) / 1000).toFixed(3)
}

export function journalText({ atMs, who, text }: JournalLine): string {
  return `${seconds(atMs).padStart(9)}  ${who.padEnd(8)}  ${text}`
}
