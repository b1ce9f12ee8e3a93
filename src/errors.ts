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
  RATE_LIMIT_EXCEEDED: { status: 429, retryable: true, what: 'A rule that refuses at once has no room for the call.', todo: 'Try again after `retryAfterMs`.' },
  COST_TOO_BIG: {
    status: 422,
    retryable: false,
    what: 'The call costs more than a limit can ever hold; nothing was charged.',
    todo: 'Split the call, or raise the burst or limit that is named.',
  },
  LIMIT_CLOSED: { status: 403, retryable: false, what: 'A limit of 0 covers the call.', todo: 'Raise the limit, or disable its rule.' },
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

/** The base of every error of Tollgate: a stable `code`, whether trying again can help, and what to do. */
export class TollgateError extends Error {
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
}

/** An option is missing or out of bounds. */
export class ConfigInvalid extends TollgateError {
  constructor(message: string) {
    super('CONFIG_INVALID', message)
  }
}

/** A call is not valid; the message names field, value and bound. */
export class CallInvalid extends TollgateError {
  constructor(message: string) {
    super('CALL_INVALID', message)
  }
}

/** A rule is not valid; the message names file and line (where there are any), field, value and bound. */
export class RulesInvalid extends TollgateError {
  /** Every fault found, the first of which is in the message. */
  readonly faults: readonly string[]
  constructor(faults: readonly string[]) {
    super('RULES_INVALID', faults.join('\n'))
    this.faults = faults
  }
}

/** The call was refused: by a rule that refuses at once, because it can never fit, or because the limit is closed. */
export class RateLimitExceeded extends TollgateError {
  /** The rule that decided, and its limit. */
  readonly rule: string
  readonly limit: string
  /** Milliseconds until the same call would pass; null when it never can. */
  readonly retryAfterMs: number | null

  constructor(code: 'RATE_LIMIT_EXCEEDED' | 'COST_TOO_BIG' | 'LIMIT_CLOSED', message: string, rule: string, limit: string, retryAfterMs: number | null) {
    super(code, message)
    this.rule = rule
    this.limit = limit
    this.retryAfterMs = retryAfterMs
  }
}

/** Redis is away: the call was refused, or nobody knows what became of it. */
export class StoreUnavailable extends TollgateError {
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
  /** For how long the agent asked to be left alone; undefined where it did not say. */
  readonly retryAfterMs: number | undefined
  constructor(options: { retryAfterMs?: number | undefined; message?: string; cause?: unknown } = {}) {
    super('UPSTREAM_LIMITED', options.message ?? 'the agent asked to be left alone for a while', { cause: options.cause })
    this.retryAfterMs = options.retryAfterMs
  }
}
