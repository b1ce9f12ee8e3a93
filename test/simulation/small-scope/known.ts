/** A fault of the program that is known and not mended yet: what shows it is expected, and becomes a regression once it is mended. */
export interface KnownFault {
  readonly scopes: readonly string[]
  readonly text: RegExp
  readonly reason: string
}

const STALE = ['stale worker', 'stale refusal'] as const

/** In the order in which they are looked through: the first that fits explains a report. */
export const KNOWN: readonly KnownFault[] = [
  {
    scopes: ['deaths', 'app dies'],
    text: /^stuck: calls that have room start [3-6] s late/,
    reason: 'ghost: what the front door promised to a call whose app died before it added the job stays claimed for 5 s, and others wait for it',
  },
  {
    scopes: ['removed job'],
    text: /^stuck: calls that have room start [3-6] s late/,
    reason: 'removed job: a call whose job was removed keeps its place until it is woken, and then its room for 5 s, and others wait for it',
  },
  {
    scopes: STALE,
    text: /^slot: "start (c\d)(\/\d)?" frees the slot of \1\b/,
    reason: "slot taken over: a start gives up the slot under its call's id before it knows whether it has room; a run of the same call that goes on loses it",
  },
  {
    scopes: STALE,
    text: /^slot: /,
    reason: "stale end: the end of a run whose job was given to another worker frees the slot under its call's id, which is the other's by then",
  },
  {
    scopes: STALE,
    text: /^over: c\d.* run at once in 1 slot/,
    reason: 'more runs than slots: follows from a slot that was taken over, or from a stale end',
  },
  {
    scopes: STALE,
    text: /^twice: a call starts whose job has ended/,
    reason: 'stale start: a worker that stood still before its start sends it, though its job was given to another worker and has ended',
  },
  {
    scopes: STALE,
    text: /^stuck: calls that have room start [3-6] s late/,
    reason: 'stale place: a start, or a refusal, of a worker that stood still puts a call in line whose job is not its own any more; others wait 5 s for it',
  },
  {
    scopes: ['429', 'stale refusal', 'settle below estimate'],
    text: /^over: \d\.\d\d (requests|tokens) more than/,
    reason: 'late refund: a settlement, or a refusal, gives back to a bucket what the time has given back before',
  },
  {
    scopes: ['rule change'],
    text: /^left: a claim of slots/,
    reason: 'leaked claim: what was claimed under the rules of the promise is given back under those of the start',
  },
  {
    scopes: ['repeats'],
    text: /^stuck: calls that have room start [3-6] s late/,
    reason: 'late copy of an enqueue: it comes when its call has started, and promises room a second time, for which there is no job',
  },
  {
    scopes: ['repeats'],
    text: /^slot: "the copy of start (c\d)(\/\d)? arrives" frees the slot of \1\b/,
    reason: 'slot taken over by a late copy of a start: it comes while its call runs',
  },
  {
    scopes: ['repeats'],
    text: /^sums: 0 entries are open, and /,
    reason: 'late copy of a start: it comes when the call waits again, or has ended, and starts it without a worker',
  },
]

export function knownFault(scope: string, text: string): KnownFault | undefined {
  return KNOWN.find((one) => one.scopes.includes(scope) && one.text.test(text))
}
