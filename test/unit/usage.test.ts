import { expect, test } from 'vitest'
import { type CallUsage, readUsage, totalTokens, usageOfResult } from '../../src/pricing/usage.js'

test("the usage of OpenAI's chat answers is read, cached tokens being part of the prompt's", () => {
  const answer = {
    usage: {
      prompt_tokens: 1117,
      completion_tokens: 46,
      total_tokens: 1163,
      prompt_tokens_details: { cached_tokens: 1024 },
      completion_tokens_details: { reasoning_tokens: 20 },
    },
  }
  expect(readUsage(answer)).toEqual({ inputTokens: 1117, cachedInputTokens: 1024, outputTokens: 46 })
})

test("the usage of OpenAI's Responses API is read, cached tokens being part of the input", () => {
  const answer = {
    usage: {
      input_tokens: 328,
      input_tokens_details: { cached_tokens: 300 },
      output_tokens: 52,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: 380,
    },
  }
  expect(readUsage(answer)).toEqual({ inputTokens: 328, cachedInputTokens: 300, outputTokens: 52 })
})

test("the usage of Anthropic's answers is read, cached tokens standing beside the input", () => {
  expect(readUsage({ usage: { input_tokens: 21, cache_creation_input_tokens: 188, cache_read_input_tokens: 2048, output_tokens: 393 } })).toEqual({
    inputTokens: 2257,
    cachedInputTokens: 2048,
    cacheWriteTokens: 188,
    outputTokens: 393,
  })
  expect(readUsage({ usage: { input_tokens: 12, cache_creation_input_tokens: null, output_tokens: 6 } })).toEqual({ inputTokens: 12, outputTokens: 6 })
})

test('a usage in the form of OpenAI with the cache fields of Anthropic counts these as part of the prompt', () => {
  const usage = { prompt_tokens: 2257, completion_tokens: 393, cache_creation_input_tokens: 188, cache_read_input_tokens: 2048 }
  expect(readUsage({ usage })).toEqual({ inputTokens: 2257, cachedInputTokens: 2048, cacheWriteTokens: 188, outputTokens: 393 })
  expect(readUsage({ usage: { ...usage, prompt_tokens_details: { cached_tokens: 2000 } } })?.cachedInputTokens).toBe(2000)
})

test.each([[null], [undefined], ['many'], [5], [{}], [{ cached_tokens: null }], [{ cached_tokens: -1 }], [{ cached_tokens: '5' }]])(
  'invalid details of the input are ignored: %j',
  (details) => {
    expect(readUsage({ usage: { prompt_tokens: 7, completion_tokens: 1, prompt_tokens_details: details } })).toEqual({ inputTokens: 7, outputTokens: 1 })
    expect(readUsage({ usage: { input_tokens: 7, output_tokens: 1, input_tokens_details: details } })).toEqual({ inputTokens: 7, outputTokens: 1 })
  },
)

test('an answer of embeddings has no output', () => {
  const usage = readUsage({ usage: { prompt_tokens: 8, total_tokens: 8 } })
  expect(usage).toEqual({ inputTokens: 8, outputTokens: 0 })
  expect(totalTokens(usage ?? {})).toBe(8)
  expect(readUsage({ usage: { prompt_tokens: 8 } })).toEqual({ inputTokens: 8, outputTokens: undefined })
  expect(readUsage({ usage: { prompt_tokens: 8, total_tokens: null } })).toEqual({ inputTokens: 8, outputTokens: undefined })
})

test.each([
  // Reasoning that is no part of the output, as xAI and Gemini count.
  [{ prompt_tokens: 37, completion_tokens: 530, total_tokens: 800 }, 763],
  [{ prompt_tokens: 10, total_tokens: 510 }, 500],
  [{ prompt_tokens: 10, completion_tokens: 5, total_tokens: 3 }, 5],
  // A gateway that counts Anthropic's cached input beside the prompt.
  [{ prompt_tokens: 5, cache_read_input_tokens: 1000, completion_tokens: 3, total_tokens: 1008 }, 3],
])('the part of a total beyond input and output counts as output: %j', (usage, outputTokens) => {
  expect(readUsage({ usage })?.outputTokens).toBe(outputTokens)
})

test.each([
  [null],
  [undefined],
  ['usage'],
  [5],
  [[]],
  [{}],
  [{ usage: null }],
  [{ usage: 'much' }],
  [{ usage: [] }],
  [{ prompt_tokens: '12', completion_tokens: -1 }],
  [{ prompt_tokens: Number.NaN, output_tokens: Number.POSITIVE_INFINITY }],
  [{ prompt_tokens: 1e300, completion_tokens: 1e13 }],
  [{ a: 1 }],
])('an answer without a valid usage has none: %j', (answer) => {
  expect(readUsage(answer)).toBeUndefined()
  expect(usageOfResult(answer)).toBeUndefined()
})

test('one good count among bad ones is kept', () => {
  expect(readUsage({ usage: { prompt_tokens: 7, completion_tokens: 'x' } })).toEqual({ inputTokens: 7, outputTokens: undefined })
})

test("a handler's result may carry its usage in our form or the agent's", () => {
  expect(usageOfResult({ usage: { tokens: 5 } })).toEqual({ tokens: 5, inputTokens: undefined, outputTokens: undefined })
  expect(usageOfResult({ usage: { inputTokens: 5, outputTokens: 0 } })).toEqual({ tokens: undefined, inputTokens: 5, outputTokens: 0 })
  expect(usageOfResult({ usage: { prompt_tokens: 5, completion_tokens: 6 } })).toEqual({ inputTokens: 5, outputTokens: 6 })
  expect(usageOfResult(Object.assign(new Error('broken off'), { usage: { outputTokens: 9 } }))).toEqual({
    tokens: undefined,
    inputTokens: undefined,
    outputTokens: 9,
  })
})

test.each<[CallUsage]>([
  [{ tokens: 1 }],
  [{ inputTokens: 1 }],
  [{ outputTokens: 1 }],
  [{ cachedInputTokens: 1 }],
  [{ cacheWriteTokens: 1 }],
  [{ usd: 0.0001 }],
  [{ points: 0.5 }],
  [{ requests: 0 }],
  [{ requests: 3, tokens: 50, inputTokens: 40, cachedInputTokens: 30, cacheWriteTokens: 5, outputTokens: 10, usd: 0.01, points: 7 }],
])('a usage of ours may say any of its fields: %j', (usage) => {
  expect(usageOfResult({ usage })).toEqual(usage)
  expect(usageOfResult({ usage: { ...usage, other: 5, points: usage.points ?? null } })).toEqual(usage)
})

test("fields in our form go before the agent's form beside them", () => {
  const agents = { prompt_tokens: 100, completion_tokens: 20, prompt_tokens_details: { cached_tokens: 80 } }
  expect(usageOfResult({ usage: { ...agents, usd: 0.25, inputTokens: 90 } })).toEqual({ inputTokens: 90, cachedInputTokens: 80, outputTokens: 20, usd: 0.25 })
})

test.each([-1, 1e13, Number.NaN, '5', null, {}])('an amount of %j is ignored in any field', (value) => {
  for (const name of ['tokens', 'inputTokens', 'outputTokens', 'cachedInputTokens', 'cacheWriteTokens', 'usd', 'points', 'requests']) {
    expect(usageOfResult({ usage: { [name]: value } })).toBeUndefined()
    expect(usageOfResult({ usage: { [name]: value, prompt_tokens: 3 } })).toEqual({ inputTokens: 3 })
  }
})

test.each([
  [{}, undefined],
  [{ inputTokens: 3 }, 3],
  [{ outputTokens: 4 }, 4],
  [{ inputTokens: 3, outputTokens: 4 }, 7],
  [{ tokens: 10, inputTokens: 3 }, 10],
  [{ tokens: 0 }, 0],
  [{ tokens: Number.NaN, inputTokens: 3 }, 3],
  [{ inputTokens: -3 }, undefined],
  [{ tokens: 1e300 }, undefined],
])('the tokens of the usage %j are %j', (usage, total) => {
  expect(totalTokens(usage)).toBe(total)
})
