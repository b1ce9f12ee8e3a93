import type { Random } from './random.js'

/** How long bytes are under way between a process and Redis, one way. */
export interface NetworkSpec {
  /** The mean of most ways. */
  readonly meanMs: number
  /** Which part of the ways is slow, and their mean. */
  readonly slowShare: number
  readonly slowMs: number
}

export const HEALTHY: NetworkSpec = { meanMs: 0.3, slowShare: 0.005, slowMs: 10 }

/** The longest way that is drawn; without a bound one draw in a million would be a fault that no seed has. */
const LONGEST_SHARE = 6

export class Network {
  constructor(public spec: NetworkSpec) {}

  delayMs(random: Random): number {
    const { meanMs, slowShare, slowMs } = this.spec
    const mean = random.chance(slowShare) ? slowMs : meanMs
    return 0.02 + Math.min(random.exponential(mean), mean * LONGEST_SHARE)
  }

  /** The longest time that a way takes. */
  get longestMs(): number {
    return LONGEST_SHARE * Math.max(this.spec.meanMs, this.spec.slowShare > 0 ? this.spec.slowMs : 0)
  }
}
