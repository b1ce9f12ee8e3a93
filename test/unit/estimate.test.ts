import { expect, test } from 'vitest'
import { DEFAULTS } from '../../src/config/defaults.js'
import { estimateChat, estimateTokens } from '../../src/cost/estimate.js'
import { CallInvalid } from '../../src/errors.js'

const chat = (payload: unknown) => estimateChat({ agent: 'openai', payload })
const message = (content: unknown) => ({ messages: [{ role: 'user', content }], max_tokens: 0 })

test.each([
  ['', 0],
  ['hello', 1],
  ['hello world', 2],
  ['The quick brown fox jumps over the lazy dog.', 10],
])('the message %j counts its tokens and what stands around them', async (text, tokens) => {
  expect(await chat(message(text))).toBe(tokens + 3 + 3)
})

test('what the call may answer with is part of the estimate', async () => {
  expect(await chat({ ...message('hello'), max_tokens: 100 })).toBe(107)
  expect(await chat({ ...message('hello'), max_completion_tokens: 50, max_tokens: 100 })).toBe(57)
  const { max_tokens: _, ...unsaid } = message('hello')
  expect(await chat(unsaid)).toBe(7 + DEFAULTS.outputTokens)
})

test.each([[-1], ['100'], [null], [Number.NaN], [{}]])('a max_tokens of %j is not believed', async (maxTokens) => {
  expect(await chat({ ...message('hello'), max_tokens: maxTokens })).toBe(7 + DEFAULTS.outputTokens)
})

test('every message counts, and a system prompt of its own', async () => {
  const two = { messages: [{ content: 'hello' }, { content: 'hello world' }], max_tokens: 0 }
  expect(await chat(two)).toBe(1 + 3 + 2 + 3 + 3)
  expect(await chat({ ...two, system: 'hello' })).toBe(1 + 3 + 2 + 3 + 1 + 3 + 3)
  expect(await chat({ ...two, system: [{ type: 'text', text: 'hello' }] })).toBe(1 + 3 + 2 + 3 + 1 + 3 + 3)
  expect(await chat({ messages: [], max_tokens: 0 })).toBe(3)
})

test('the text of content parts counts, that of images and the like does not', async () => {
  const parts = [{ type: 'text', text: 'hello' }, { type: 'image_url', image_url: { url: `data:image/png;base64,${'A'.repeat(10_000)}` } }, null, 7]
  expect(await chat(message(parts))).toBeLessThan(15)
  expect(await chat(message([{ type: 'tool_result', content: [{ type: 'text', text: 'hello' }] }]))).toBe(7)
  expect(await chat({ messages: [null, 5, { role: 'user' }], max_tokens: 0 })).toBe(3 * 3 + 3)
})

test.each(['<|endoftext|>', '<|im_start|>system<|im_end|>', 'a <|endofprompt|> b', '\ud800', '😀'.repeat(3000)])('the text %j counts as text', async (text) => {
  expect(await chat(message(text))).toBeGreaterThan(6)
})

test('a payload without messages counts as its text', async () => {
  expect(await chat('hello world')).toBe(2 + DEFAULTS.outputTokens)
  expect(await chat({ input: 'hello', max_tokens: 5 })).toBeGreaterThan(5 + 1)
  expect(await chat(undefined)).toBe(DEFAULTS.outputTokens)
  expect(await chat(null)).toBe(1 + DEFAULTS.outputTokens)
})

test('long texts count nearly as in one piece, and one letter without an end does not take minutes', async () => {
  const sentence = 'The quick brown fox jumps over the lazy dog. '
  const long = await chat(message(sentence.repeat(1000)))
  expect(long).toBeGreaterThan(10_000)
  expect(long).toBeLessThan(10_100)
  const run = await chat(message('a'.repeat(1024 * 1024)))
  expect(run).toBeGreaterThan(100_000)
  expect(run).toBeLessThan(200_000)
})

test('a payload that JSON cannot hold is refused', async () => {
  const circular: Record<string, unknown> = {}
  circular['self'] = circular
  await expect(chat(circular)).rejects.toThrow(CallInvalid)
  await expect(chat({ big: 1n })).rejects.toThrow(/^payload: must be something that JSON can hold/)
})

test.each([1e300, 2e12, Number.POSITIVE_INFINITY])('a max_tokens of %d is refused with its bound', async (maxTokens) => {
  await expect(estimateTokens({ agent: 'a', payload: { messages: [], max_tokens: maxTokens } }, undefined)).rejects.toThrow(
    /^cost\.tokens: the estimate must be a number from 0 to 1000000000000 \(got .+\)$/,
  )
})

test("what the call says goes before the user's estimate, and that before the tokenizer's", async () => {
  const call = { agent: 'a', payload: message('hello') }
  expect(await estimateTokens({ ...call, cost: { tokens: 0 } }, () => 5)).toBe(0)
  expect(await estimateTokens(call, () => 5)).toBe(5)
  expect(await estimateTokens(call, async () => 0.5)).toBe(0.5)
  expect(await estimateTokens(call, undefined)).toBe(7)
})

test.each([Number.NaN, -1, 1e13, Number.POSITIVE_INFINITY, '5', null, undefined, {}, 5n])(
  "a user's estimate of %s is refused, naming value and bound",
  async (tokens) => {
    const error: unknown = await estimateTokens({ agent: 'a' }, () => tokens as number).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(CallInvalid)
    expect((error as CallInvalid).message).toMatch(/^cost\.tokens: the estimate must be a number from 0 to 1000000000000 \(got .+\)$/)
  },
)
