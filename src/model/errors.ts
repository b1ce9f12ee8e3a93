import type { HeadersLike } from './upstream.js'

/**
 * The catalogue of errors. A code never changes its meaning; `docs/errors.md` lists
 * each one, and a test fails when the two differ.
 */
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
  REQUEST_INVALID: {
    status: 400,
    retryable: false,
    what: 'An override, a pause or a question about them is not valid; nothing was changed.',
    todo: 'Correct the field that the message names.',
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
  CALL_UNKNOWN: { status: 404, retryable: false, what: 'No such call, or it finished too long ago.', todo: 'Check the id and the queue.' },
  UPSTREAM_LIMITED: {
    status: 503,
    retryable: true,
    what: 'The agent asked to be left alone for a while.',
    todo: 'Nothing: the call goes back to the head of its line.',
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
  CLOSED: { status: 503, retryable: false, what: 'This Tollgate was closed.', todo: 'Open a new one.' },
} as const satisfies Record<string, { status: number; retryable: boolean; what: string; todo: string }>

export type ErrorCode = keyof typeof ERRORS

/** Marks the errors of every copy of Tollgate in a process: a worker loaded as an ES module runs handlers that `require` the package. */
const BRAND = Symbol.for('tollgate.error')

/** The base of every error of Tollgate: a stable `code`, whether trying again can help, and what to do. */
export class TollgateError extends Error {
  /** Written out in every class: a minifier renames classes, and copies are compared by these names. */
  static override readonly name: string = 'TollgateError'
  static {
    Object.defineProperty(TollgateError.prototype, BRAND, { value: true })
  }

  readonly code: ErrorCode
  /** The HTTP status that fits. */
  readonly status: number
  readonly retryable: boolean
  /** What to do about it, in one sentence. */
  readonly todo: string

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
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

/** A call is not valid; the message names field, value and bound. */
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

/** A rule is not valid; the message names file and line (where there are any), field, value and bound. */
export class RulesInvalid extends TollgateError {
  static override readonly name: string = 'RulesInvalid'
  /** Every fault found, the first of which is in the message. */
  readonly faults: readonly string[]
  constructor(faults: readonly string[]) {
    super('RULES_INVALID', faults.join('\n'))
    this.faults = faults
  }
}

/** Why a limit refuses a call. */
export type RefusalCode = 'RATE_LIMIT_EXCEEDED' | 'COST_TOO_BIG' | 'LIMIT_CLOSED' | 'PAUSED' | 'LINE_FULL' | 'DEADLINE_MISSED'

/** The call was refused: by a rule that refuses at once, because it can never fit or not in time, because its line is full, the limit closed, or such calls are paused. */
export class RateLimitExceeded extends TollgateError {
  static override readonly name: string = 'RateLimitExceeded'
  /** The rule that decided, and its limit. */
  readonly rule: string
  readonly limit: string
  /** Milliseconds until the same call would pass; null when it never can. */
  readonly retryAfterMs: number | null
  /** Of one that would start after its deadline: in how many ms it would; else null. */
  readonly etaMs: number | null
  /** Of one that found a full line: how many stand in it; else null. */
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

/** Redis is away: the call was refused, or nobody knows what became of it. */
export class StoreUnavailable extends TollgateError {
  static override readonly name: string = 'StoreUnavailable'
  /** When it is worth asking again, in ms. */
  readonly retryAfterMs: number
  /** Of an enqueue: the id of the call, under which it may be tried again without being enqueued twice. */
  readonly id: string | undefined
  /** Of an enqueue: whether the call may have been enqueued after all; else it was not. */
  readonly maybeEnqueued: boolean

  constructor(message: string, options: { retryAfterMs: number; id?: string | undefined; maybeEnqueued?: boolean; cause?: unknown }) {
    super('STORE_UNAVAILABLE', message, { cause: options.cause })
    this.retryAfterMs = options.retryAfterMs
    this.id = options.id
    this.maybeEnqueued = options.maybeEnqueued ?? false
  }
}

/** Thrown by a handler whose agent said "not now": the call goes back to the head of its line, no attempt is used up. */
export class UpstreamLimited extends TollgateError {
  static override readonly name: string = 'UpstreamLimited'
  /** For how long the agent asked to be left alone; undefined where it did not say. */
  readonly retryAfterMs: number | undefined
  /** The headers of its answer, where the time is read from if it is not given, and what they tell of its limits. */
  readonly headers: HeadersLike | undefined
  constructor(options: { retryAfterMs?: number | undefined; headers?: HeadersLike | undefined; message?: string; cause?: unknown } = {}) {
    super('UPSTREAM_LIMITED', options.message ?? 'the agent asked to be left alone for a while', { cause: options.cause })
    this.retryAfterMs = options.retryAfterMs
    this.headers = options.headers
  }
}
