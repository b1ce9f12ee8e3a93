import { withoutArguments, withoutCredentials } from './secrets.js'
import type { HeadersLike } from './upstream.js'

/** The catalogue of errors. A code never changes its meaning; `docs/errors.md` lists each one, and a test fails when the two differ. */
export const ERRORS = {
  CONFIG_INVALID: { status: 500, retryable: false, what: 'An option is missing or out of bounds.', todo: 'Correct the option that the message names.' },
  RULES_INVALID: {
    status: 400,
    retryable: false,
    what: 'A rule is not valid; the rules in force stay as they are.',
    todo: 'Correct the field that the message names.',
  },
  CALL_INVALID: {
    status: 400,
    retryable: false,
    what: 'A call is not valid; nothing was charged or enqueued.',
    todo: 'Correct the field that the message names.',
  },
  CALL_INCOMPLETE: {
    status: 400,
    retryable: false,
    what: 'The call lacks a field that a rule requires (`requires`); nothing was charged or enqueued.',
    todo: 'Give the call the field that the message names.',
  },
  REQUEST_INVALID: {
    status: 400,
    retryable: false,
    what: 'An override, a pause or a question about them is not valid; nothing was changed.',
    todo: 'Correct the field that the message names.',
  },
  RULES_MISSING: {
    status: 503,
    retryable: true,
    what: 'The namespace has no rules, and `requireRules` is set.',
    todo: 'Declare rules, or open again when a process that knows them has declared them.',
  },
  RULE_UNKNOWN: {
    status: 404,
    retryable: false,
    what: 'No rule has that name; nothing was changed.',
    todo: 'Check the name: `tollgate.rules.list()` has all of them.',
  },
  RATE_LIMIT_EXCEEDED: { status: 429, retryable: true, what: 'A rule that refuses at once has no room for the call.', todo: 'Try again after `retryAfterMs`.' },
  LINE_FULL: {
    status: 429,
    retryable: true,
    what: 'As many calls wait as the rule allows (`maxWaiting`); nothing was enqueued.',
    todo: 'Try again later, or raise `maxWaiting`.',
  },
  DEADLINE_MISSED: {
    status: 503,
    retryable: false,
    what: 'The call would start after its deadline; nothing was enqueued.',
    todo: 'Give it a later `deadline` or a longer `maxWaitMs`; `etaMs` says when it would start.',
  },
  CALL_EXPIRED: {
    status: 504,
    retryable: false,
    what: 'The deadline of the call passed before it started; it cost nothing.',
    todo: 'Enqueue it again if it is still wanted.',
  },
  COST_TOO_BIG: {
    status: 422,
    retryable: false,
    what: 'The call costs more than a limit can ever hold; nothing was charged.',
    todo: 'Split the call, or raise the burst or limit that is named.',
  },
  LIMIT_CLOSED: { status: 403, retryable: false, what: 'A limit of 0 covers the call.', todo: 'Raise the limit, or disable its rule.' },
  PAUSED: { status: 503, retryable: true, what: 'Calls like this one are paused; nothing was charged.', todo: 'Try again when they are resumed.' },
  CALL_CANCELLED: { status: 409, retryable: false, what: 'The call was cancelled before it finished.', todo: 'Enqueue it again if it is still wanted.' },
  CALL_TIMED_OUT: {
    status: 504,
    retryable: true,
    what: 'The handler did not finish within `timeoutMs`; its estimate stays charged.',
    todo: 'Raise `timeoutMs`, or make the call smaller.',
  },
  CALL_FAILED: { status: 502, retryable: false, what: 'The handler failed for good.', todo: 'Read the reason in the message.' },
  ID_TAKEN: {
    status: 409,
    retryable: false,
    what: 'The id or deduplication key is that of another call, with another agent or other scope values; nothing was charged, given back or read.',
    todo: 'Give each call an id of its own.',
  },
  CALL_UNKNOWN: { status: 404, retryable: false, what: 'No such call, or it finished too long ago.', todo: 'Check the id and the queue.' },
  UPSTREAM_LIMITED: {
    status: 503,
    retryable: true,
    what: 'The agent asked to be left alone for a while.',
    todo: 'Nothing: the call goes back to its place in line.',
  },
  UPSTREAM_REFUSED: {
    status: 502,
    retryable: false,
    what: 'The agent does not take the call: it says that waiting does not help, or has refused the call more than `maxReturns` times.',
    todo: "Read the agent's words in the message; then change the call, or raise the agent's quota or `maxReturns`.",
  },
  UPSTREAM_FAILED: { status: 502, retryable: true, what: 'The agent answered with an error.', todo: 'Read the status in the message.' },
  LIMITER_CONTENDED: {
    status: 503,
    retryable: true,
    what: 'A limiter of your own algorithm was asked for one key by too many processes at once.',
    todo: 'Try again; spread the key, or use an algorithm that Tollgate brings.',
  },
  REDIS_REQUIRED: {
    status: 500,
    retryable: false,
    what: 'The queue was asked of a Tollgate that has no Redis.',
    todo: 'Set REDIS_URL, or the option `redis`.',
  },
  REDIS_UNAVAILABLE: { status: 503, retryable: true, what: 'Redis could not be reached.', todo: 'Check the address and that the server runs.' },
  STORE_UNAVAILABLE: {
    status: 503,
    retryable: true,
    what: 'Redis is away, and the call may not go on without it.',
    todo: 'Try again after `retryAfterMs`; where the error says that it may have been enqueued, under the same `id`.',
  },
  UNAUTHENTICATED: {
    status: 401,
    retryable: false,
    what: 'The request has no key that is valid now.',
    todo: 'Send a key as `Authorization: Bearer …`, or as `x-api-key`.',
  },
  FORBIDDEN: {
    status: 403,
    retryable: false,
    what: 'The request may not do that: its key is not for it, or it comes from a page of another site.',
    todo: "Use an administrator's key where one is needed; see docs/server.md.",
  },
  ROUTE_UNKNOWN: { status: 404, retryable: false, what: 'The server has no such address.', todo: 'See `/openapi.json`.' },
  BODY_TOO_LARGE: { status: 413, retryable: false, what: 'The body of the request is too large.', todo: 'Send less, or raise `maxBodyBytes`.' },
  MEDIA_TYPE_UNSUPPORTED: { status: 415, retryable: false, what: 'The body of the request is not JSON.', todo: 'Send `application/json`.' },
  SERVER_BUSY: {
    status: 503,
    retryable: true,
    what: 'The server holds as many clients as it may, gets more requests than it takes, or is closing.',
    todo: 'Try again after `Retry-After`; raise `maxHeld` or `maxRequestsPerSecond`.',
  },
  SERVER_FAILED: { status: 500, retryable: false, what: 'The server met an error that it does not know.', todo: 'Look into its log.' },
  CLOSED: { status: 503, retryable: false, what: 'This Tollgate was closed.', todo: 'Open a new one.' },
} as const satisfies Record<string, { status: number; retryable: boolean; what: string; todo: string }>

export type ErrorCode = keyof typeof ERRORS

/** Marks the errors of every copy of Tollgate in a process: a worker loaded as an ES module runs handlers that `require` the package. */
const BRAND = Symbol.for('tollgate.error')

/** The base of every error of Tollgate. `docs/errors.md` lists the codes. */
export class TollgateError extends Error {
  /** Written out in every class: a minifier renames classes, and copies are compared by these names. */
  static override readonly name: string = 'TollgateError'
  static {
    Object.defineProperty(TollgateError.prototype, BRAND, { value: true })
  }

  /** Never changes its meaning: what programs should test. */
  readonly code: ErrorCode
  /** The HTTP status to answer with. */
  readonly status: number
  /** Whether the same request may succeed later. */
  readonly retryable: boolean
  /** What to do about it, in one sentence. */
  readonly todo: string

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(withoutCredentials(message), options)
    withoutArguments(options?.cause)
    this.name = new.target.name
    this.code = code
    this.status = ERRORS[code].status
    this.retryable = ERRORS[code].retryable
    this.todo = ERRORS[code].todo
  }

  /** `instanceof` holds across copies of Tollgate, by the names of the classes. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (value === null || typeof value !== 'object' || !(BRAND in value)) return false
    // biome-ignore lint/complexity/noThisInStatic: the class on the right of `instanceof`, which may be a subclass
    for (let type: unknown = value.constructor; typeof type === 'function'; type = Object.getPrototypeOf(type)) if (type.name === this.name) return true
    return false
  }
}

/** An option is missing or out of bounds. */
export class ConfigInvalid extends TollgateError {
  static override readonly name: string = 'ConfigInvalid'
  constructor(message: string) {
    super('CONFIG_INVALID', message)
  }
}

/** A process that requires rules finds none. */
export function rulesMissing(): TollgateError {
  return new TollgateError('RULES_MISSING', 'this namespace has no rules, and its calls would pass unchecked')
}

/** A call is not valid; the message names field, value and bound. Nothing was charged or enqueued. */
export class CallInvalid extends TollgateError {
  static override readonly name: string = 'CallInvalid'
  constructor(message: string) {
    super('CALL_INVALID', message)
  }
}

/** An override, a pause or a question about them is not valid; the message names field, value and bound. */
export class RequestInvalid extends TollgateError {
  static override readonly name: string = 'RequestInvalid'
  constructor(message: string) {
    super('REQUEST_INVALID', message)
  }
}

/** A rule is not valid; the message names field, value and bound, and for a rules file its path and line. The rules in force stay. */
export class RulesInvalid extends TollgateError {
  static override readonly name: string = 'RulesInvalid'
  /** @param faults every fault that was found, one line of the message each */
  constructor(readonly faults: readonly string[]) {
    super('RULES_INVALID', faults.join('\n'))
  }
}

/** The codes of a refusal by a limit. */
export type RefusalCode = 'RATE_LIMIT_EXCEEDED' | 'COST_TOO_BIG' | 'LIMIT_CLOSED' | 'PAUSED' | 'LINE_FULL' | 'DEADLINE_MISSED'

/** A limit refused the call; `code` says why. */
export class RateLimitExceeded extends TollgateError {
  static override readonly name: string = 'RateLimitExceeded'
  /** The rule that refused the call. */
  readonly rule: string
  /** The name of the limit within that rule. */
  readonly limit: string
  /** Milliseconds until the same call would pass; null where it never can, or the time is unknown. */
  readonly retryAfterMs: number | null
  /** Only for DEADLINE_MISSED: in how many ms the call would start; else null. */
  readonly etaMs: number | null
  /** Only for LINE_FULL: how many calls stand in that line; else null. */
  readonly waiting: number | null

  constructor(code: RefusalCode, message: string, why: { rule: string; limit: string; retryAfterMs?: number | null; etaMs?: number; waiting?: number }) {
    super(code, message)
    this.rule = why.rule
    this.limit = why.limit
    this.retryAfterMs = why.retryAfterMs ?? null
    this.etaMs = why.etaMs ?? null
    this.waiting = why.waiting ?? null
  }
}

/** Redis is away: the call was refused, or it is unknown whether the command reached Redis (see `maybeEnqueued`). */
export class StoreUnavailable extends TollgateError {
  static override readonly name: string = 'StoreUnavailable'
  /** After how many ms to try again. */
  readonly retryAfterMs: number
  /** Only for an enqueue: the id of the call. Enqueueing again under this id never enqueues the call twice. */
  readonly id: string | undefined
  /** Only for an enqueue: true where the call may have been enqueued although no answer came; false where it was not. */
  readonly maybeEnqueued: boolean

  constructor(message: string, options: { retryAfterMs: number; id?: string | undefined; maybeEnqueued?: boolean; cause?: unknown }) {
    super('STORE_UNAVAILABLE', message, { cause: options.cause })
    this.retryAfterMs = options.retryAfterMs
    this.id = options.id
    this.maybeEnqueued = options.maybeEnqueued ?? false
  }
}

/**
 * Thrown by a handler whose agent refused the call for now. The call goes back to its place in line without using up an attempt,
 * and no process sends calls to that agent, endpoint and model for `retryAfterMs`. With `retryable: false` waiting does not help: the call fails at
 * once, and its agent is not left alone.
 */
export class UpstreamLimited extends TollgateError {
  static override readonly name: string = 'UpstreamLimited'
  /** How long the agent asked to wait, in ms; undefined: read from `headers`, else one second. */
  readonly retryAfterMs: number | undefined
  /** The headers of the agent's answer: `Retry-After` and the rate-limit headers are read from them. */
  readonly headers: HeadersLike | undefined
  /** Whether the same call may pass later. */
  override readonly retryable: boolean
  /** What the handler says of that; undefined: `headers` and `cause` say it. */
  readonly decides: boolean | undefined
  constructor(
    options: {
      retryAfterMs?: number | undefined
      headers?: HeadersLike | undefined
      /** false: the agent will never take the call. Default: as `headers` (`x-should-retry`) and `cause` say, else true. */
      retryable?: boolean | undefined
      message?: string
      cause?: unknown
    } = {},
  ) {
    super('UPSTREAM_LIMITED', options.message ?? 'the agent asked to be left alone for a while', { cause: options.cause })
    this.retryAfterMs = options.retryAfterMs
    this.headers = options.headers
    this.decides = options.retryable
    this.retryable = options.retryable !== false
  }
}
