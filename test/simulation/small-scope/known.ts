/** A fault of the program that is known and not mended yet: what shows it is expected, and becomes a regression once it is mended. */
export interface KnownFault {
  readonly name: string
  readonly reason: string
  /** In which scopes it is met, and in what reports. */
  readonly scopes: readonly string[]
  readonly text: RegExp
  /** A path that shows it, in the first of its scopes. Once it does not any more, the fault is to be taken off this list. */
  readonly path: string
}

/** In the order in which they are looked through: the first that fits explains a report. */
export const KNOWN: readonly KnownFault[] = []

export function knownFault(scope: string, text: string): KnownFault | undefined {
  return KNOWN.find((one) => one.scopes.includes(scope) && one.text.test(text))
}
