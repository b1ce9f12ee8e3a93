/**
 * The limit of the agent: a bucket that refills at a steady rate up to its burst. It shares no
 * code with Tollgate: a mistake there must show here as a 429.
 */
export class RefillBucket {
  readonly perSecond: number
  readonly burst: number
  private level: number
  private filledAtMs: number

  constructor(perSecond: number, burst: number, nowMs: number) {
    this.perSecond = perSecond
    this.burst = burst
    this.level = burst
    this.filledAtMs = nowMs
  }

  /** The amount that can be taken now; below zero where more was used than reserved. */
  available(nowMs: number): number {
    const elapsedMs = Math.max(0, nowMs - this.filledAtMs)
    this.filledAtMs += elapsedMs
    this.level = Math.min(this.burst, this.level + (elapsedMs / 1000) * this.perSecond)
    return this.level
  }

  /** The ms until an amount can be taken; Infinity where it exceeds the burst. */
  msUntil(amount: number, nowMs: number): number {
    if (amount > this.burst) return Number.POSITIVE_INFINITY
    return Math.max(0, ((amount - this.available(nowMs)) / this.perSecond) * 1000)
  }

  take(amount: number, nowMs: number): void {
    this.level = this.available(nowMs) - amount
  }

  /** Puts back an amount that was reserved and not used; a negative amount takes more. */
  putBack(amount: number, nowMs: number): void {
    this.level = Math.min(this.burst, this.available(nowMs) + amount)
  }
}
