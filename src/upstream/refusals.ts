import { TollgateError, UpstreamLimited } from '../model/errors.js'
import type { HeadersLike } from '../model/upstream.js'
import { headerOf } from './headers.js'
import { fitWords } from './words.js'

/** The statuses of a call that is refused for now: 429 Too Many Requests, 503 Service Unavailable, and Anthropic's 529 Overloaded. */
const LATER: ReadonlySet<number> = new Set([429, 503, 529])
/** The statuses of a call that is refused for what it is: 402 Payment Required, and 413 Content Too Large. */
const NEVER: ReadonlySet<number> = new Set([402, 413])

/** Codes in the errors of agents that waiting does not mend: no quota or money is left, or the call is too large. */
const FINAL_CODES = new RegExp(
  `\\b(?:${[
    'insufficient_quota',
    'billing_hard_limit_reached',
    'billing_not_active',
    'billing_error',
    'account_deactivated',
    'access_terminated',
    'exceeded_current_quota_error',
    'insufficient_(?:balance|credits?|funds)',
    'payment_required',
    'credit_limit_(?:reached|exceeded)',
    'spend_limit_(?:reached|exceeded)',
    'request_too_large',
    'context_length_exceeded',
  ].join('|')})\\b`,
  'i',
)

/** The same in words, of agents whose codes do not tell it from a refusal for now. */
const FINAL_WORDS: readonly RegExp[] = [
  /\binsufficient (?:account )?(?:balance|credits?|funds|quota)\b/i,
  /\b(?:credit )?balance is (?:too low|insufficient|exhausted)|\bcredits? (?:balance )?(?:are|is|have been|has been) (?:depleted|exhausted|used up)/i,
  /\b(?:out of|no (?:more|remaining)|used all (?:available|of your)|exceeded your monthly included) credits?\b/i,
  /\bbilling (?:hard )?limit\b|\b(?:monthly|account|hard|your) (?:spending|spend|billing) (?:limit|cap)\b|\bspending limit (?:reached|exceeded)\b/i,
  /\b(?:account|subscription) (?:is|has been) (?:not active|inactive|suspended|deactivated)\b/i,
  /\brequest (?:entity )?(?:is )?too large\b|\b(?:prompt|input|payload|content|message) (?:is|are) too (?:large|long)\b|\bmaximum context length\b/i,
  /\bextra usage is required for long context\b/i,
  /余额不足/,
]
/** Google says the same of the quota of a minute, whose end it names. */
const QUOTA_USED_UP = /\bexceeded your current quota\b.{0,40}\bbilling\b/i
const GOOGLE = /RESOURCE_EXHAUSTED|RetryInfo|QuotaFailure|generativelanguage/
const GOOGLE_FINAL = /PerDay|\blimit: 0\b/
/** OpenAI, Groq: so much was asked for, and no more than that fits into the limit. */
const REQUESTED = /\blimit:?\s*(\d+)\b.{0,60}\brequested:?\s*(\d+)/i

/** A refusal by an agent. later: the call may pass once its agent has room. never: waiting does not help. */
export type AgentRefusal = Readonly<{ name: 'later'; limited: UpstreamLimited; words: string } | { name: 'never'; words: string }>

/** How deep bodies and causes are looked into, and how much of them. */
const DEEPEST = 10
const MOST_TEXTS = 200

/** A property that may not be there, or throws. */
function read(from: unknown, name: string): unknown {
  try {
    return from !== null && typeof from === 'object' ? (from as Record<string, unknown>)[name] : undefined
  } catch {
    return undefined
  }
}

function statusOf(error: unknown): number | undefined {
  for (const value of [
    read(error, 'status'),
    read(error, 'statusCode'),
    read(read(error, 'response'), 'status'),
    read(read(error, 'response'), 'statusCode'),
  ]) {
    const status = typeof value === 'string' && /^\d{3}$/.test(value) ? Number(value) : value
    if (typeof status === 'number' && Number.isInteger(status)) return status
  }
  return undefined
}

function headersOf(error: unknown): HeadersLike | undefined {
  for (const headers of [read(error, 'headers'), read(error, 'responseHeaders'), read(read(error, 'response'), 'headers')])
    if (headers !== null && typeof headers === 'object') return headers as HeadersLike
  return undefined
}

/** Where errors of clients keep the body of an answer: OpenAI's and Anthropic's, the AI SDK's, axios' and got's. */
const BODIES = ['error', 'body', 'responseBody', 'data', 'cause']

/** The texts in the body of an answer, with the names of their fields. */
function textsOf(body: unknown): { readonly field: string; readonly text: string }[] {
  const texts: { field: string; text: string }[] = []
  const walk = (value: unknown, field: string, depth: number): void => {
    if (depth > DEEPEST || texts.length >= MOST_TEXTS) return
    if (typeof value === 'string') {
      const parsed = /^\s*[[{]/.test(value) ? json(value) : undefined
      if (parsed === undefined) texts.push({ field, text: value.slice(0, 4000) })
      else walk(parsed, field, depth + 1)
    } else if (Array.isArray(value)) {
      for (const one of value.slice(0, MOST_TEXTS)) walk(one, field, depth + 1)
    } else if (value !== null && typeof value === 'object') {
      // That of an Error is not among its keys.
      for (const name of new Set(['message', ...Object.keys(value).slice(0, MOST_TEXTS)])) walk(read(value, name), name, depth + 1)
    }
  }
  walk(body, '', 0)
  return texts
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function bodyOf(error: unknown): unknown[] {
  const response = read(error, 'response')
  return [...BODIES.map((name) => read(error, name)), ...['data', 'body'].map((name) => read(response, name)), read(error, 'code'), read(error, 'type')]
}

/** Whether an agent's words say that waiting does not help. */
function isFinalBody(body: unknown): boolean {
  const said = textsOf(body)
    .map(({ text }) => text)
    .join('\n')
  if (FINAL_CODES.test(said) || FINAL_WORDS.some((words) => words.test(said))) return true
  if (GOOGLE.test(said)) return GOOGLE_FINAL.test(said)
  const [, limit, requested] = REQUESTED.exec(said) ?? []
  return QUOTA_USED_UP.test(said) || Number(requested) > Number(limit)
}

/** Whether the answer of an agent says that waiting does not help. */
export function isFinalAnswer(status: number | undefined, headers: HeadersLike | undefined, body: unknown): boolean {
  if (status !== undefined && (status < 400 || status > 599)) return false
  if (status !== undefined && NEVER.has(status)) return true
  if (headers !== undefined && headerOf(headers, 'x-should-retry')?.toLowerCase() === 'false') return true
  return isFinalBody(body)
}

/** Whether an answer with this status is a refusal for now, unless the rest of it says more. */
export function isRefusal(status: number): boolean {
  return LATER.has(status)
}

/** What the error says, and what the agent said in its answer, where the error leaves that out. */
function wordsOf(error: unknown): string {
  const message = read(error, 'message')
  const own = typeof message === 'string' ? message : ''
  const told = textsOf(bodyOf(error)).find(({ field, text }) => field === 'message' && text.trim() !== '')?.text
  if (told === undefined || own.includes(told)) return fitWords(own === '' ? 'the agent refused the call' : own)
  return fitWords(own === '' ? told : `${own}: ${told}`)
}

function refusal(error: unknown): AgentRefusal | undefined {
  if (error instanceof UpstreamLimited) {
    const { headers, cause } = error
    const never = !error.retryable || (error.decides === undefined && isFinalAnswer(undefined, headers, [bodyOf(cause), error.message]))
    return never ? { name: 'never', words: wordsOf(error) } : { name: 'later', limited: error, words: wordsOf(error) }
  }
  if (error instanceof TollgateError) return error.code === 'UPSTREAM_REFUSED' ? { name: 'never', words: fitWords(error.message) } : undefined
  const status = statusOf(error)
  if (status === undefined) return undefined
  const headers = headersOf(error)
  if (isFinalAnswer(status, headers, [bodyOf(error), read(error, 'message')]) || (isRefusal(status) && read(error, 'retryable') === false))
    return { name: 'never', words: wordsOf(error) }
  if (!isRefusal(status)) return undefined
  const waitMs = read(error, 'retryAfterMs')
  const retryAfterMs = typeof waitMs === 'number' && waitMs >= 0 ? waitMs : undefined
  return { name: 'later', limited: new UpstreamLimited({ retryAfterMs, headers, cause: error }), words: wordsOf(error) }
}

/**
 * The refusal in an error of a handler; undefined where the error is something else. A refusal is an UpstreamLimited, or any error whose `status` says so, such as those of OpenAI's and Anthropic's clients, whose `headers` contain the Retry-After. Never throws, whatever
 * the error is made of.
 */
export function refusalOf(error: unknown): AgentRefusal | undefined {
  try {
    return refusal(error)
  } catch {
    return undefined
  }
}
