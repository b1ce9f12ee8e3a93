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

const LATE = /^stuck: calls that have room start [3-6] s late/

/** In the order in which they are looked through: the first that fits explains a report. */
export const KNOWN: readonly KnownFault[] = [
  {
    name: 'ghost',
    reason: 'what the front door promised to a call whose app died before it added the job stays claimed for 5 s, and others wait for it',
    scopes: ['app dies', 'deaths'],
    text: LATE,
    path: 'enqueue c1 > app 1 dies > fair completion',
  },
  {
    name: 'removed job',
    reason: 'a call whose job was removed keeps its place until it is woken, and then its room for 5 s, and others wait for it',
    scopes: ['removed job'],
    text: LATE,
    path: 'enqueue c0 > add c0 > enqueue c1 > add c1 > the job of c1 is removed > fair completion',
  },
  {
    name: 'leaked claim',
    reason: 'what was claimed under the rules of the promise is given back under those of the start',
    scopes: ['rule change'],
    text: /^left: a claim of slots/,
    path: 'the rules change > the workers learn the rules > fair completion',
  },
  {
    name: 'late copy of an enqueue',
    reason: 'it comes when its call has started, and promises room a second time, for which there is no job: others wait 5 s for it',
    scopes: ['repeats'],
    text: LATE,
    path: 'enqueue c0, a copy is on its way > add c0 > take c0 > start c0 > the copy of enqueue c0 arrives > fair completion',
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
