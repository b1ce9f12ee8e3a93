import { expect, test } from 'vitest'
import type { Call } from '../../src/model/call.js'
import { DEFAULTS } from '../../src/model/defaults.js'
import { CallInvalid } from '../../src/model/errors.js'
import { type Estimate, estimateChat, estimateCosts, runEstimate } from '../../src/pricing/estimate.js'
import { compilePrices } from '../../src/pricing/prices.js'

/** The tokens that a call is charged where a rule counts them. */
async function estimateTokens(call: Call, estimate: Estimate | undefined): Promise<number> {
  return (await estimateCosts(call, new Set(['tokens']), compilePrices({}), estimate)).tokens
}

async function chat(payload: unknown): Promise<number> {
  const { inputTokens, outputTokens } = await estimateChat({ agent: 'openai', payload })
  return inputTokens + outputTokens
}
const message = (content: unknown) => ({ messages: [{ role: 'user', content }], max_tokens: 0 })

test.each([
  ['', 0],
  ['hello', 1],
  ['hello world', 2],
  ['The quick brown fox jumps over the lazy dog.', 10],
])('the message %j counts its tokens and 6 more for its frame', async (text, tokens) => {
  expect(await chat(message(text))).toBe(tokens + 3 + 3)
})

test('the longest possible answer is part of the estimate', async () => {
  expect(await chat({ ...message('hello'), max_tokens: 100 })).toBe(107)
  expect(await chat({ ...message('hello'), max_completion_tokens: 50, max_tokens: 100 })).toBe(107)
  const { max_tokens: _, ...withoutMax } = message('hello')
  expect(await chat(withoutMax)).toBe(7 + DEFAULTS.outputTokens)
})

test('the estimate has the tokens sent and the longest answer apart', async () => {
  expect(await estimateChat({ agent: 'a', payload: { ...message('hello'), max_tokens: 100 } })).toEqual({ inputTokens: 7, outputTokens: 100 })
  expect(await estimateChat({ agent: 'a', payload: 'hello world' })).toEqual({ inputTokens: 2, outputTokens: DEFAULTS.outputTokens })
  expect(await estimateChat({ agent: 'a' })).toEqual({ inputTokens: 0, outputTokens: DEFAULTS.outputTokens })
})

test.each([[-1], ['100'], [null], [Number.NaN], [{}]])('a max_tokens of %j is ignored', async (maxTokens) => {
  expect(await chat({ ...message('hello'), max_tokens: maxTokens })).toBe(7 + DEFAULTS.outputTokens)
})

test('every message counts, and a separate system prompt, too', async () => {
  const two = { messages: [{ content: 'hello' }, { content: 'hello world' }], max_tokens: 0 }
  expect(await chat(two)).toBe(1 + 3 + 2 + 3 + 3)
  expect(await chat({ ...two, system: 'hello' })).toBe(1 + 3 + 2 + 3 + 1 + 3 + 3)
  expect(await chat({ ...two, system: [{ type: 'text', text: 'hello' }] })).toBe(1 + 3 + 2 + 3 + 1 + 3 + 3)
  expect(await chat({ messages: [], max_tokens: 0 })).toBe(3)
})

test('the text of content parts counts, a picture by its size', async () => {
  const parts = [{ type: 'text', text: 'hello' }, { type: 'image_url', image_url: { url: `data:image/png;base64,${'A'.repeat(10_000)}` } }, null, 7]
  expect(await chat(message(parts))).toBe(7 + 1000)
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

test('long texts count nearly as in one piece, and a megabyte of one letter is counted in less than a minute', async () => {
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

test("a declared cost goes before the user's estimate, and that before the tokenizer's", async () => {
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

test("a user's estimate may be tokens or a cost in any units, at once or later", async () => {
  const call = { agent: 'a' }
  const cost = { requests: 2, tokens: 10, inputTokens: 7, outputTokens: 3, usd: 0.5, points: 4 }
  expect(runEstimate(() => 5, call)).toEqual({ tokens: 5 })
  expect(runEstimate(() => cost, call)).toEqual(cost)
  expect(runEstimate(() => ({ usd: 1, tokens: undefined }), call)).toEqual({ usd: 1 })
  expect(runEstimate(async () => cost, call)).toBeInstanceOf(Promise)
  expect(await runEstimate(async () => cost, call)).toEqual(cost)
  expect(await runEstimate(async () => 5, call)).toEqual({ tokens: 5 })
})

test.each<[unknown, RegExp]>([
  [{ usd: -1 }, /^cost\.usd: the estimate must be a number from 0 to 1000000000000 \(got -1\)$/],
  [{ tokens: 5, points: Number.NaN }, /^cost\.points: the estimate must be a number from 0 to 1000000000000 \(got NaN\)$/],
  [{ inputTokens: '5' }, /^cost\.inputTokens: the estimate must be a number from 0 to 1000000000000 \(got "5"\)$/],
  [{ outputTokens: 1e13 }, /^cost\.outputTokens: the estimate must be a number from 0 to 1000000000000 \(got 10000000000000\)$/],
  [{ letters: 5 }, /^cost\.letters: the estimate names what is no unit of cost \(got 5\)$/],
  [{ constructor: 5 }, /^cost\.constructor: the estimate names what is no unit of cost \(got 5\)$/],
  [[5], /^cost\.0: the estimate names what is no unit of cost \(got 5\)$/],
  [[], /^cost\.tokens: the estimate must be a number from 0 to 1000000000000 \(got \[\]\)$/],
])("a user's estimate of %j is refused, naming unit, value and bound", async (answer, message) => {
  const untyped = (estimate: unknown) => estimate as Estimate
  expect(() =>
    runEstimate(
      untyped(() => answer),
      { agent: 'a' },
    ),
  ).toThrow(message)
  await expect(
    runEstimate(
      untyped(async () => answer),
      { agent: 'a' },
    ),
  ).rejects.toThrow(message)
  await expect(
    estimateTokens(
      { agent: 'a' },
      untyped(() => answer),
    ),
  ).rejects.toThrow(CallInvalid)
})

test("a user's estimate that fails refuses the call, saying why", async () => {
  const message = /^cost\.tokens: the estimate failed \(no idea\)$/
  const failing = () => {
    throw new Error('no idea')
  }
  expect(() => runEstimate(failing, { agent: 'a' })).toThrow(message)
  await expect(runEstimate(async () => failing(), { agent: 'a' })).rejects.toThrow(message)
  await expect(estimateTokens({ agent: 'a' }, failing)).rejects.toThrow(message)
})

test("the tokenizer adds the tokens that a user's estimate leaves out", async () => {
  const call = { agent: 'a', payload: { ...message('hello'), max_tokens: 100 } }
  expect(await estimateTokens(call, () => ({ tokens: 5 }))).toBe(5)
  expect(await estimateTokens(call, () => ({ inputTokens: 5, outputTokens: 6 }))).toBe(11)
  expect(await estimateTokens(call, () => ({ inputTokens: 5 }))).toBe(105)
  expect(await estimateTokens(call, () => ({ outputTokens: 5 }))).toBe(12)
  expect(await estimateTokens(call, () => ({ usd: 5 }))).toBe(107)
})
