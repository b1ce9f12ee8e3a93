import { ConfigInvalid } from '../model/errors.js'
import { show } from '../validation/faults.js'

/** The keys that every script over meters gets first, in their order. */
export const FIXED_KEYS = ['lines', 'passes', 'sequence', 'queued', 'wake', 'figures', 'deadlines'] as const

/**
 * Names of keys, built here and nowhere else. All of a namespace carry one hash tag, its
 * queues' included, so every script touches a single slot. BullMQ's keys follow the
 * prefix with ':', Tollgate's with '/', so no queue's name can meet one of ours.
 */
export class Keys {
  /** The `prefix` of the namespace's BullMQ queues. */
  readonly prefix: string
  /** Lines by the time their first call can move. */
  readonly lines: string
  /** Woken calls that have not started, by when to look after them. */
  readonly passes: string
  readonly sequence: string
  readonly queued: string
  /** What the ledger comes to. */
  readonly figures: string
  /** Calls in a line that wait no longer than until a time, by that time. */
  readonly deadlines: string
  /** What agents were seen to allow. */
  readonly upstream: string
  /** Channels. */
  readonly wake: string
  readonly notices: string
  readonly news: string
  /** Who drains. */
  readonly dispatcher: string
  /** The namespace's policy and its version. */
  readonly rules: string
  /** What was changed, by whom. */
  readonly audit: string
  /** The processes that have the namespace open. */
  readonly members: string
  /** What every script over meters gets first. */
  readonly fixed: readonly string[]

  constructor(namespace: string) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(namespace)) {
      throw new ConfigInvalid(`namespace must be 1 to 64 letters, digits, . _ or - (got ${show(namespace)})`)
    }
    this.prefix = `{tollgate:${namespace}}`
    this.lines = `${this.prefix}/lines`
    this.passes = `${this.prefix}/passes`
    this.sequence = `${this.prefix}/sequence`
    this.queued = `${this.prefix}/queued`
    this.figures = `${this.prefix}/figures`
    this.deadlines = `${this.prefix}/deadlines`
    this.upstream = `${this.prefix}/upstream`
    this.wake = `${this.prefix}/wake`
    this.notices = `${this.prefix}/notices`
    this.news = `${this.prefix}/news`
    this.dispatcher = `${this.prefix}/drainer`
    this.rules = `${this.prefix}/rules`
    this.audit = `${this.prefix}/audit`
    this.members = `${this.prefix}/members`
    this.fixed = FIXED_KEYS.map((name) => this[name])
  }

  /** State of a rule's limits for one scope value. */
  meter(rule: string, value: string): string {
    return `${this.prefix}/m/${rule}/${value}`
  }
  /** The line at a meter. */
  line(rule: string, value: string): string {
    return `${this.prefix}/l/${rule}/${value}`
  }
  /** The concurrency leases of a meter. */
  leases(rule: string, value: string): string {
    return `${this.prefix}/s/${rule}/${value}`
  }
  /** The sliding log of one limit, which is known by its id. */
  log(rule: string, limit: number, value: string): string {
    return `${this.prefix}/h/${rule}/${limit}/${value}`
  }
  /** The state of a user's own algorithm. */
  custom(name: string, value: string): string {
    return `${this.prefix}/x/${name}/${value}`
  }
  /** The record of a call on its way. */
  call(id: string): string {
    return `${this.prefix}/c/${id}`
  }
  /** The mark that something a process used in an outage was taken in. */
  absorbed(name: string): string {
    return `${this.prefix}/o/${name}`
  }
  /** Rule and scope value of a line's key, or null if it is not one. */
  parseLine(key: string): { rule: string; value: string } | null {
    const start = `${this.prefix}/l/`
    if (!key.startsWith(start)) return null
    const slash = key.indexOf('/', start.length)
    return slash < 0 ? null : { rule: key.slice(start.length, slash), value: key.slice(slash + 1) }
  }
}
