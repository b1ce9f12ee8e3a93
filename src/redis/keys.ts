import { ConfigInvalid } from '../model/errors.js'
import { show } from '../validation/faults.js'

/** The keys that every script over meters gets first, in their order. */
export const FIXED_KEYS = ['lines', 'passes', 'sequence', 'queued', 'wake', 'figures', 'deadlines', 'pulse'] as const

/** Stands for the rule of lines of one call, which wait for nothing but a time. Names of rules in a policy contain no `~`. */
export const OWN_LINE = '~returned'

/** The keys of one namespace begin with its prefix. */
class Prefixed {
  /** The `prefix` of the namespace's BullMQ queues. */
  readonly prefix: string
  /** What all other keys begin with. */
  protected readonly own: string

  /** @param prefix of BullMQ's queues, where the app has one */
  constructor(namespace: string, prefix?: string) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(namespace)) {
      throw new ConfigInvalid(`namespace must be 1 to 64 letters, digits, . _ or - (got ${show(namespace)})`)
    }
    this.prefix = prefix ?? `{tollgate:${namespace}}`
    this.own = prefix === undefined ? this.prefix : `${prefix}/${namespace}`
  }
}

/**
 * Names of Redis keys and channels, built here and nowhere else. All keys of a namespace, those of its queues included, carry one hash tag, so a
 * script touches a single slot. After the prefix BullMQ's keys go on with ':' and Tollgate's with '/', so no name of a queue can make a key of BullMQ
 * equal to one of Tollgate. With a prefix of the app's own, Tollgate's keys go on with '/' and the namespace.
 */
export class Keys extends Prefixed {
  /** Sorted set: the lines, by the time at which their first call can move. */
  readonly lines = `${this.own}/lines`
  /** Sorted set: the passes (of dispatched calls that have not started), by the time at which to check them. */
  readonly passes = `${this.own}/passes`
  /** The arrival time of the last call that got a place in a line: the next place is after it. */
  readonly sequence = `${this.own}/sequence`
  /** Hash: per line the costs of its calls in each unit, packed. */
  readonly queued = `${this.own}/queued`
  /** The sums of the ledger. */
  readonly figures = `${this.own}/figures`
  /** Sorted set: calls in a line that have a deadline, by the deadline. */
  readonly deadlines = `${this.own}/deadlines`
  /** The last sign of a worker, and the last silences of all of them. */
  readonly pulse = `${this.own}/pulse`
  /** What agents reported of their limits. */
  readonly upstream = `${this.own}/upstream`
  /** Channel: a dispatcher has to look at the lines. */
  readonly wake = `${this.own}/wake`
  /** Channel: changes of the policy, and cancellations of running calls. */
  readonly notices = `${this.own}/notices`
  /** Channel: news of agents, for the bus. */
  readonly news = `${this.own}/news`
  /** The lease of the process that dispatches. */
  readonly dispatcher = `${this.own}/drainer`
  /** The namespace's policy and its version. */
  readonly rules = `${this.own}/rules`
  /** Hash: the API keys that were issued, by their SHA-256, and a version. */
  readonly apiKeys = `${this.own}/keys`
  readonly audit = `${this.own}/audit`
  /** Hash: the entries of the audit that count resets of limiters. */
  readonly resets = `${this.own}/resets`
  /** Hash: how often each override was used. */
  readonly overrideUses = `${this.own}/uses`
  /** Hash: the workers of the namespace, with their places. */
  readonly workers = `${this.own}/workers`
  /** What the dispatcher saw last of all lines, as JSON. */
  readonly seen = `${this.own}/seen`
  /** Hash: calls that fail again and again, with how often and when last. */
  readonly troubled = `${this.own}/troubled`
  /** Hash: the queues that take no calls at the moment. */
  readonly closedQueues = `${this.own}/closed`
  /** What the keys of all lines begin with; rule and scope value follow. */
  readonly linePrefix = this.line('', '').slice(0, -1)
  /** A key, and a channel, that are never written: permissions are tried on it. */
  readonly probe = `${this.own}/probe`
  /** The processes that have the namespace open. */
  readonly members = `${this.own}/members`
  /** The first keys of every script over meters, in their order. */
  readonly fixed: readonly string[] = FIXED_KEYS.map((name) => this[name])

  /** Hash: the alerts that fire, as JSON. */
  readonly alerts = `${this.own}/alerts`
  /** Sorted set: the queues of held calls, by the time after which their processes count as dead. */
  readonly held = `${this.own}/held`

  /** The process that makes a held call, by a hash of the call's idempotency key. */
  heldBy(name: string): string {
    return `${this.own}/j/${name}`
  }

  /** The meter of a rule for one scope value: the state of its limits. */
  meter(rule: string, value: string): string {
    return `${this.own}/m/${rule}/${value}`
  }
  /** The line at a meter. */
  line(rule: string, value: string): string {
    return `${this.own}/l/${rule}/${value}`
  }
  /** The line in which a call that its agent refused waits alone for its next try. */
  ownLine(id: string): string {
    return this.line(OWN_LINE, id)
  }
  isOwnLine(key: string): boolean {
    return key.startsWith(this.ownLine(''))
  }
  /** The concurrency leases of a meter. */
  leases(rule: string, value: string): string {
    return `${this.own}/s/${rule}/${value}`
  }
  /** The sliding log of one limit. @param limit its id */
  log(rule: string, limit: number, value: string): string {
    return `${this.own}/h/${rule}/${limit}/${value}`
  }
  /** The state of a user's own algorithm. */
  custom(name: string, value: string): string {
    return `${this.own}/x/${name}/${value}`
  }
  /** The ledger that the calls of one batch share. Names of ledgers and ids of calls are apart: no id makes a key of a ledger. */
  ledger(name: string): string {
    return `${this.own}/g/${name}`
  }
  /** The number of the last batch of starts that a worker has sent. */
  sender(worker: string): string {
    return `${this.own}/n/${worker}`
  }
  /** The record of a call that has not ended. */
  call(id: string): string {
    return `${this.own}/c/${id}`
  }
  /** BullMQ's limiter of a queue, which `queue.rateLimit` sets. */
  queueLimiter(queue: string): string {
    return `${this.prefix}:${queue}:limiter`
  }
  /** The BullMQ job of a call, by the id of its record: `<queue>/<job>`. */
  job(id: string): string {
    return `${this.prefix}:${id.replace('/', ':')}`
  }
  /** The line of the calls that wait for a worker of their queue. */
  queueLine(queue: string): string {
    return this.line('~queue', queue)
  }
  /** The lock of a job, which BullMQ keeps: the token of the worker that has it. */
  jobLock(queue: string, jobId: string): string {
    return `${this.prefix}:${queue}:${jobId}:lock`
  }
  /** The mark that a part of a process' usage during an outage was merged. */
  merged(name: string): string {
    return `${this.own}/o/${name}`
  }
  /** A series of the history: a hash of points. @param name such as `r/<rule>`; see `src/history/series.ts` */
  series(name: string): string {
    return `${this.own}/t/${name}`
  }
  /** The number of the last batch of counts that a process has sent. */
  historySender(process: string): string {
    return `${this.own}/t/~${process}`
  }
  /** A top list of the history: a sorted set of names. */
  top(list: string): string {
    return `${this.own}/y/${list}`
  }
  /** Hash: how much of a name's count in a top list may be that of names before it. */
  topErrors(list: string): string {
    return `${this.own}/z/${list}`
  }
  /** Rule and scope value of a line's key, or null if it is not one. */
  parseLine(key: string): { rule: string; value: string } | null {
    const start = this.linePrefix.length
    if (!key.startsWith(this.linePrefix)) return null
    const slash = key.indexOf('/', start)
    return slash < 0 ? null : { rule: key.slice(start, slash), value: key.slice(slash + 1) }
  }
}
