import { expect, test } from 'vitest'
import { TollgateError, UpstreamLimited } from '../../src/index.js'
import { readRetryAfter } from '../../src/upstream/headers.js'
import { refusalOf } from '../../src/upstream/refusals.js'
import { fitWords } from '../../src/upstream/words.js'

/** An error as OpenAI's client makes it: the status and the message of the body, and the body's `error`. */
function openai(status: number, error: { message: string; code?: string; type?: string }, headers: Record<string, string> = {}): Error {
  return Object.assign(new Error(`${status} ${error.message}`), { status, headers: new Headers(headers), error, code: error.code, type: error.type })
}

const LIMITED = 'Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 6s.'
const TOO_LARGE = 'Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 60000. The input or output tokens must be reduced.'
const ANTHROPIC = 'This request would exceed the rate limit of 50,000 input tokens per minute. Please reduce the prompt length, or try again later.'
const QUOTA = 'You exceeded your current quota, please check your plan and billing details.'
const google = (quotaId: string) => ({
  error: {
    code: 429,
    message: QUOTA,
    status: 'RESOURCE_EXHAUSTED',
    details: [{ violations: [{ quotaId }] }, { '@type': 'google.rpc.RetryInfo', retryDelay: '34s' }],
  },
})

test.each([
  ['a plain 429', Object.assign(new Error('429'), { status: 429 })],
  ['503', { status: 503 }],
  ['529', { status: 529, message: 'Overloaded' }],
  ["OpenAI's limit of a minute", openai(429, { message: LIMITED, code: 'rate_limit_exceeded', type: 'tokens' })],
  [
    "Anthropic's limit of a minute",
    Object.assign(new Error(ANTHROPIC), { status: 429, error: { type: 'error', error: { type: 'rate_limit_error', message: ANTHROPIC } } }),
  ],
  ["Google's quota of a minute", { status: 429, body: JSON.stringify(google('GenerateRequestsPerMinutePerProjectPerModel')) }],
  ["the AI SDK's 429", Object.assign(new Error('limit'), { statusCode: 429, responseHeaders: { 'retry-after': '3' }, responseBody: '{}', isRetryable: true })],
  ["axios' 429", Object.assign(new Error('Request failed'), { response: { status: 429, headers: { 'retry-after': '3' }, data: {} } })],
  ['a hand-made one', new UpstreamLimited()],
  [
    'headers that throw',
    {
      status: 429,
      headers: {
        get: () => {
          throw new Error('hdr')
        },
      },
    },
  ],
])('%s is a refusal for now', (_, error) => {
  expect(refusalOf(error)?.name).toBe('later')
})

test.each([
  ['insufficient_quota', openai(429, { message: QUOTA, code: 'insufficient_quota', type: 'insufficient_quota' })],
  ['the same in words alone', Object.assign(new Error(`429 ${QUOTA}`), { status: 429 })],
  ['a request above the limit', openai(429, { message: TOO_LARGE, code: 'rate_limit_exceeded', type: 'tokens' })],
  ['more requested than the limit has', openai(429, { message: 'On tokens per minute: Limit 6000, Used 0, Requested 7000' })],
  ['413', openai(413, { message: 'too big' })],
  ['402', { status: 402, message: 'Insufficient Balance' }],
  ['x-should-retry: false', openai(429, { message: LIMITED }, { 'x-should-retry': 'false' })],
  ['x-should-retry: false on 500', openai(500, { message: 'no' }, { 'x-should-retry': 'False' })],
  [
    "Anthropic's credit",
    { status: 400, error: { type: 'error', error: { type: 'invalid_request_error', message: 'Your credit balance is too low to access the Anthropic API.' } } },
  ],
  ["Anthropic's billing_error", { status: 429, body: { type: 'error', error: { type: 'billing_error', message: 'see billing' } } }],
  ["Anthropic's long context", { status: 429, message: 'Extra usage is required for long context requests.' }],
  ["Google's quota of a day", { status: 429, body: JSON.stringify(google('GenerateRequestsPerDayPerProjectPerModel')) }],
  ["Google's quota of nothing", { status: 429, message: 'RESOURCE_EXHAUSTED: Quota exceeded for metric x, limit: 0' }],
  ['a body of axios', { response: { status: 429, headers: {}, data: { error: { code: 'billing_hard_limit_reached' } } } }],
  ['a body of the AI SDK', { statusCode: 429, responseBody: '{"error":{"code":"insufficient_quota"}}' }],
  ['retryable: false by hand', new UpstreamLimited({ retryable: false })],
  ['a cause that says so', new UpstreamLimited({ cause: openai(429, { message: QUOTA, code: 'insufficient_quota' }) })],
  ['retryable: false on a 429', { status: 429, retryable: false }],
])('%s is a refusal for good', (_, error) => {
  expect(refusalOf(error)?.name).toBe('never')
})

test.each([
  ['500', { status: 500, message: 'fell over' }],
  ['400', { status: 400, message: 'no such field' }],
  ['no status', new Error('billing_error')],
  ['200', { status: 200, code: 'insufficient_quota' }],
  ["Tollgate's own", new TollgateError('UPSTREAM_FAILED', 'insufficient_quota')],
  ['nothing', null],
  [
    'a getter that throws',
    {
      get status() {
        throw new Error('no')
      },
    },
  ],
  [
    'a proxy that throws',
    new Proxy(
      {},
      {
        get: () => {
          throw new Error('no')
        },
        getPrototypeOf: () => {
          throw new Error('no')
        },
        has: () => {
          throw new Error('no')
        },
      },
    ),
  ],
])('%s is no refusal', (_, error) => {
  expect(refusalOf(error)).toBeUndefined()
})

test('a handler that decides by itself is believed, and Retry-After is read from the headers of every client', () => {
  expect(refusalOf(new UpstreamLimited({ retryable: true, headers: { 'x-should-retry': 'false' } }))?.name).toBe('later')
  for (const error of [
    { status: 429, headers: { 'Retry-After': '3' } },
    { statusCode: 429, responseHeaders: { 'retry-after': 3 } },
  ]) {
    const refusal = refusalOf(error)
    expect(refusal?.name === 'later' && readRetryAfter(refusal.limited.headers ?? {})).toBe(3000)
  }
})

test("the agent's own words are told, also where its client leaves them out", () => {
  expect(refusalOf(openai(429, { message: QUOTA, code: 'insufficient_quota' }))).toEqual({ name: 'never', words: `429 ${QUOTA}` })
  const axios = Object.assign(new Error('Request failed with status code 402'), { response: { status: 402, data: { error: { message: 'No money left' } } } })
  expect(refusalOf(axios)).toEqual({ name: 'never', words: 'Request failed with status code 402: No money left' })
})

test.each([
  ['Incorrect key: sk-proj-abcdEFGH1234567890', 'Incorrect key: [hidden]'],
  ['key AIzaSyA-1234567890abcdef is bad', 'key [hidden] is bad'],
  ['Authorization: Bearer abc.def-ghi', 'Authorization: Bearer [hidden]'],
  ['{"api_key":"hunter22"}', '{"api_key":"[hidden]"}'],
  ['redis://user:pass@host/0', 'redis://[hidden]@host/0'],
  ['token 0123456789abcdef0123456789abcdef', 'token [hidden]'],
  ['Please check your plan and billing details', 'Please check your plan and billing details'],
  ['req_011CSHoEeqs5C35K2UUqR7Fy', 'req_011CSHoEeqs5C35K2UUqR7Fy'],
  ['two\nlines\u001b[31m', 'two lines [31m'],
])('of %j is quoted %j', (text, quoted) => {
  expect(fitWords(text)).toBe(quoted)
})

test('a known secret is hidden whatever it looks like, and words are bounded', () => {
  expect(fitWords('bad key correct-horse!', ['correct-horse!'])).toBe('bad key [hidden]')
  expect(fitWords('x '.repeat(100_000))).toHaveLength(500)
})
