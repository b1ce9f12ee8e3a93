import { expect, test } from 'vitest'
import { readUsage, totalTokens, usageOf } from '../../src/cost/usage.js'

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
  expect(readUsage(answer)).toEqual({ inputTokens: 1117, outputTokens: 46 })
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
  expect(readUsage(answer)).toEqual({ inputTokens: 328, outputTokens: 52 })
})

test("the usage of Anthropic's answers is read, cached tokens standing beside the input", () => {
  expect(readUsage({ usage: { input_tokens: 21, cache_creation_input_tokens: 188, cache_read_input_tokens: 2048, output_tokens: 393 } })).toEqual({
    inputTokens: 2257,
    outputTokens: 393,
  })
  expect(readUsage({ usage: { input_tokens: 12, cache_creation_input_tokens: null, output_tokens: 6 } })).toEqual({ inputTokens: 12, outputTokens: 6 })
})

test('an answer of embeddings has no output', () => {
  const usage = readUsage({ usage: { prompt_tokens: 8, total_tokens: 8 } })
  expect(usage).toEqual({ inputTokens: 8, outputTokens: undefined })
  expect(totalTokens(usage ?? {})).toBe(8)
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
  [{ usage: { prompt_tokens: '12', completion_tokens: -1 } }],
  [{ usage: { prompt_tokens: Number.NaN, output_tokens: Number.POSITIVE_INFINITY } }],
  [{ usage: { prompt_tokens: 1e300, completion_tokens: 1e13 } }],
  [{ usage: { prompt_tokens: { a: 1 } } }],
])('an answer that tells of no usage has none: %j', (answer) => {
  expect(readUsage(answer)).toBeUndefined()
  expect(usageOf(answer)).toBeUndefined()
})

test('one good count among bad ones is kept', () => {
  expect(readUsage({ usage: { prompt_tokens: 7, completion_tokens: 'x' } })).toEqual({ inputTokens: 7, outputTokens: undefined })
})

test("a handler's result may carry its usage in our form or the agent's", () => {
  expect(usageOf({ usage: { tokens: 5 } })).toEqual({ tokens: 5, inputTokens: undefined, outputTokens: undefined })
  expect(usageOf({ usage: { inputTokens: 5, outputTokens: 0 } })).toEqual({ tokens: undefined, inputTokens: 5, outputTokens: 0 })
  expect(usageOf({ usage: { prompt_tokens: 5, completion_tokens: 6 } })).toEqual({ inputTokens: 5, outputTokens: 6 })
  expect(usageOf(Object.assign(new Error('broken off'), { usage: { outputTokens: 9 } }))).toEqual({
    tokens: undefined,
    inputTokens: undefined,
    outputTokens: 9,
  })
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
