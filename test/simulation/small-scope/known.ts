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
export const KNOWN: readonly KnownFault[] = [
  {
    name: 'late copy of a start: slot',
    reason: 'it comes while its call runs under a later start, and takes over the slot, though there is no room for it',
    scopes: ['repeats'],
    text: /^slot: "the copy of start (c\d)(\/\d)? arrives" frees the slot of \1\b/,
    path: 'enqueue c0 > +1100 > add c0 > enqueue c1 > take c0 > look > reconcile > look > dispatch > start c0, a copy is on its way > +1100 > start c0 > the copy of start c0 arrives',
  },
  {
    name: 'late copy of a start: charge',
    reason: 'it comes when the call waits again, or has ended, and starts it without a worker: its entry stays open, and its slot for a lease',
    scopes: ['repeats'],
    text: /^sums: 0 entries are open, and /,
    path: 'enqueue c0 > +1100 > add c0 > enqueue c1 > take c0 > look > reconcile > look > dispatch > start c0, a copy is on its way > the copy of start c0 arrives > fair completion',
  },
]

export function knownFault(scope: string, text: string): KnownFault | undefined {
  return KNOWN.find((one) => one.scopes.includes(scope) && one.text.test(text))
}
