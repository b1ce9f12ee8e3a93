/** A stream of chance: the same seed gives the same numbers. The generator is mulberry32 (Tommy Ettinger, public domain). */
export class Random {
  private state: number

  constructor(seed: string) {
    this.state = hashOf(seed)
    for (let round = 0; round < 4; round++) this.next()
  }

  /** From 0 up to, not including, 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }

  /** A whole number from 0 up to, not including, `bound`. */
  int(bound: number): number {
    return Math.floor(this.next() * bound)
  }

  between(least: number, most: number): number {
    return least + this.next() * (most - least)
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(list.length)] as T
  }

  /** Some of a list, each with this probability, in their order. */
  some<T>(list: readonly T[], probability: number): T[] {
    return list.filter(() => this.chance(probability))
  }

  /** Exponentially distributed. */
  exponential(mean: number): number {
    return -Math.log(1 - this.next()) * mean
  }
}

/** FNV-1a. */
export function hashOf(text: string | Uint8Array): number {
  let hash = 2166136261
  if (typeof text === 'string') for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619)
  else for (const byte of text) hash = Math.imul(hash ^ byte, 16777619)
  return hash >>> 0
}

/**
 * Gives each source of chance (one connection's delays, one app's calls, one kind of fault) a stream of its own. With one stream for all, a draw
 * more in one place would change every later draw everywhere, and a seed that shows a fault would show nothing after any change of the program.
 */
export class Chance {
  constructor(readonly seed: number) {}

  stream(name: string): Random {
    return new Random(`${this.seed}/${name}`)
  }
}
