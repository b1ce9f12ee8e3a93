/** For how many batches a key that stood in the way of sums is left to the general way. */
const MARKED_FOR = 64
const MARKS_AT_MOST = 1000
/** The longest pause after batches that were refused one after the other, in batches. */
const LONGEST_PAUSE = 64
/** So many refusals in a row are borne: each has marked other keys. */
const REFUSALS_BORNE = 2

/**
 * Remembers what stood in the way of deciding on sums, so that near a limit a second script call is seldom paid. A meter that was tight, or an agent
 * that has said something, is left to the general way for the next batches. Where batch after batch is refused, since other meters are tight each
 * time, or calls stand in line, fewer and fewer are tried.
 *
 * It counts batches, not time: a process with few batches pays little for a second script call, and one with many tries again soon.
 */
export class SumsMarks {
  private batch = 0
  private readonly marks = new Map<string, number>()
  private refusals = 0
  private resumesAt = 0

  /** A batch begins. @returns whether to try sums for it */
  next(): boolean {
    return ++this.batch >= this.resumesAt
  }

  readonly isTight = (key: string): boolean => {
    if (this.marks.size === 0) return false
    const until = this.marks.get(key)
    if (until === undefined) return false
    if (until > this.batch) return true
    this.marks.delete(key)
    return false
  }

  fitted(): void {
    this.refusals = 0
  }

  /** @param keys what stood in the way; none where calls stand in line */
  refused(keys: readonly string[]): void {
    this.refusals++
    const beyond = this.refusals - (keys.length === 0 ? 0 : REFUSALS_BORNE)
    if (beyond > 0) this.resumesAt = this.batch + 1 + Math.min(LONGEST_PAUSE, 2 ** beyond)
    if (this.marks.size + keys.length > MARKS_AT_MOST) this.marks.clear()
    for (const key of keys.slice(0, MARKS_AT_MOST)) this.marks.set(key, this.batch + MARKED_FOR)
  }
}
