/**
 * The agent's own idea of a limit: a bucket that fills at a steady rate up to its burst.
 * Written apart from Tollgate's, on purpose: a mistake there must show here as a 429.
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

  /** What may be taken now; below zero where more was used than reserved. */
  available(nowMs: number): number {
    const elapsedMs = Math.max(0, nowMs - this.filledAtMs)
    this.filledAtMs += elapsedMs
    this.level = Math.min(this.burst, this.level + (elapsedMs / 1000) * this.perSecond)
    return this.level
  }

  /** Ms until so much may be taken; Infinity where it never can. */
  msUntil(amount: number, nowMs: number): number {
    if (amount > this.burst) return Number.POSITIVE_INFINITY
    return Math.max(0, ((amount - this.available(nowMs)) / this.perSecond) * 1000)
  }

  take(amount: number, nowMs: number): void {
    this.level = this.available(nowMs) - amount
  }

  /** Puts back what was taken and not used; a negative amount takes what was used beyond. */
  putBack(amount: number, nowMs: number): void {
    this.level = Math.min(this.burst, this.available(nowMs) + amount)
  }
}
