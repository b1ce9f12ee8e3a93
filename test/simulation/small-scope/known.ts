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

const STALE = ['stale worker', 'stale refusal'] as const
const LATE = /^stuck: calls that have room start [3-6] s late/

/** In the order in which they are looked through: the first that fits explains a report. */
export const KNOWN: readonly KnownFault[] = [


  {
    name: 'slot taken over',
    reason: "a start gives up the slot under its call's id before it knows whether it has room; a run of the same call that goes on loses it",
    scopes: STALE,
    text: /^slot: "start (c\d)(\/\d)?" frees the slot of \1\b/,
    path: 'enqueue c0 > add c0 > take c0 > the worker of c0 stands still > +1100 > the worker of c0 goes on > start c0 > BullMQ finds c0 stalled > take c0 > start c0/2',
  },
  {
    name: 'stale end',
    reason: "the end of a run whose job was given to another worker frees the slot under its call's id, which is the other's by then",
    scopes: STALE,
    text: /^slot: /,
    path: 'enqueue c0 > add c0 > take c0 > start c0 > the worker of c0 stands still > +1100 > the worker of c0 goes on > end c0 > BullMQ finds c0 stalled > take c0 > start c0/2 > settle c0',
  },
  {
    name: 'more runs than slots',
    reason: 'follows from a stale end, or from a slot that was taken over',
    scopes: STALE,
    text: /^over: c\d.* run at once in 1 slot/,
    path: 'enqueue c0 > add c0 > take c0 > start c0 > the worker of c0 stands still > +1100 > the worker of c0 goes on > end c0 > BullMQ finds c0 stalled > take c0 > start c0/2 > enqueue c1 > add c1 > settle c0 > +1100 > look > dispatch > promote c1 > complete c0 > take c1 > start c1',
  },
  {
    name: 'stale start',
    reason: 'a worker that stood still before its start sends it, though its job was given to another worker and has ended',
    scopes: STALE,
    text: /^twice: a call starts whose job has ended/,
    path: 'enqueue c0 > +1100 > add c0 > enqueue c1 > add c1 > take c0 > the worker of c0 stands still > look > reconcile > look > dispatch > promote c1 > take c1 > start c1 > +1100 > the worker of c0 goes on > start c0 > fair completion',
  },
  {
    name: 'stale place',
    reason: 'a start, or a refusal, of a worker that stood still puts a call in line whose job is not its own any more; others wait 5 s for it',
    scopes: STALE,
    text: LATE,
    path: 'enqueue c0 > add c0 > take c0 > the worker of c0 stands still > +1100 > BullMQ finds c0 stalled > take c0 > start c0/2 > fair completion',
  },
  {
    name: 'late refund',
    reason: 'a settlement, or a refusal, gives back to a bucket what the time has given back before',
    scopes: ['settle below estimate', '429', 'stale refusal'],
    text: /^over: \d\.\d\d (requests|tokens) more than/,
    path: 'enqueue c0 > add c0 > take c0 > +1100 > enqueue c1 > add c1 > start c0 > +1100 > enqueue c2 > add c2 > end c0 > complete c0 > look > dispatch > promote c1 > take c1 > start c1 > settle c0 > look > dispatch > promote c2 > take c2 > start c2',
  },


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
