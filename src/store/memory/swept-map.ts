/** A map is swept when it has so many entries, and again when twice as many are left. */
export const SWEEP_FROM = 1000

/** A map that forgets what has ended as it grows. Each entry was paid for when it came: a sweep takes constant time an entry. */
export class SweptMap<Value> extends Map<string, Value> {
  private sweepAt = SWEEP_FROM

  constructor(private readonly hasEnded: (value: Value, nowMs: number) => boolean) {
    super()
  }

  put(key: string, value: Value, nowMs: number): void {
    if (this.size >= this.sweepAt && !this.has(key)) {
      for (const [other, held] of this) if (this.hasEnded(held, nowMs)) this.delete(other)
      this.sweepAt = Math.max(SWEEP_FROM, 2 * this.size)
    }
    this.set(key, value)
  }
}
