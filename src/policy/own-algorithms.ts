import { createHash } from 'node:crypto'
import type { RuleAlgorithm } from '../limits/algorithms/custom.js'
import { NAMED_ALGORITHMS } from '../limits/algorithms.js'
import type { FindOwn } from '../limits/compiled-limit.js'
import { MINUTE } from '../model/time.js'
import { show } from '../validation/faults.js'

/** The algorithms that a process was given, by name: they count while Redis is away, and where there is none. */
export class Twins {
  private saidAtMs = Number.NEGATIVE_INFINITY

  /** @param complain is told of one that fails, once a minute */
  constructor(
    private readonly given: Readonly<Record<string, RuleAlgorithm>>,
    private readonly complain: (name: string, fault: unknown) => void = () => {},
  ) {}

  /** The algorithm of a name, if this process was given it with the same text. */
  of(name: string, lua: string): RuleAlgorithm | undefined {
    const own = Object.hasOwn(this.given, name) ? this.given[name] : undefined
    return own?.lua === lua ? own : undefined
  }

  failed(name: string, fault: unknown): void {
    if (performance.now() - this.saidAtMs < MINUTE) return
    this.saidAtMs = performance.now()
    this.complain(name, fault)
  }
}

export const NO_TWINS = new Twins({})

/** The version of an algorithm: a hash of its text, under which its limits count. */
export function algorithmVersion(lua: string): string {
  return createHash('sha256').update(lua).digest('hex').slice(0, 12)
}

/** The algorithms that the limits of a namespace may name. */
export class OwnAlgorithms {
  /** @param texts of the policy: their Lua, by name */
  constructor(
    private readonly texts: Readonly<Record<string, string>>,
    readonly twins: Twins,
  ) {}

  /** @param refusal the error of a limit whose algorithm is not registered, from what is wrong with its field `algorithm` */
  finder(refusal: (message: string) => Error): FindOwn {
    return (name) => {
      const lua = Object.hasOwn(this.texts, name) ? this.texts[name] : undefined
      if (lua === undefined) throw refusal(this.unknown(name))
      return { name, lua, twin: this.twins.of(name, lua), failed: (fault) => this.twins.failed(name, fault) }
    }
  }

  private unknown(name: string): string {
    const registered = Object.keys(this.texts).map((one) => `custom:${one}`)
    const own = registered.length === 0 ? 'no algorithm of your own is registered' : `registered are ${registered.join(', ')}`
    return `algorithm must be one of ${NAMED_ALGORITHMS.join(', ')}, or one that Tollgate.open({ algorithms }) registers; ${own} (got ${show(`custom:${name}`)})`
  }
}
