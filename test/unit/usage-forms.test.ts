import { expect, test } from 'vitest'
import { bringsUsage, type CallUsage, completed, mergeParts, totalTokens, usageOfResult } from '../../src/pricing/usage.js'

/** What providers and their clients answer with, as they document it, and what it means: input (with all that was cached), cached, written, output. */
const FORMS: Record<string, [unknown, [number | undefined, number | undefined, number | undefined, number | undefined]]> = {
  'OpenAI chat, cached and reasoning tokens': [
    {
      usage: {
        prompt_tokens: 900,
        completion_tokens: 100,
        total_tokens: 1000,
        prompt_tokens_details: { cached_tokens: 800, audio_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 40, accepted_prediction_tokens: 0 },
      },
    },
    [900, 800, undefined, 100],
  ],
  'OpenAI embeddings': [{ data: [], usage: { prompt_tokens: 900, total_tokens: 900 } }, [900, undefined, undefined, 0]],
  'OpenAI responses': [
    {
      usage: {
        input_tokens: 900,
        input_tokens_details: { cached_tokens: 800 },
        output_tokens: 100,
        output_tokens_details: { reasoning_tokens: 50 },
        total_tokens: 1000,
      },
    },
    [900, 800, undefined, 100],
  ],
  "the last event of OpenAI's responses stream": [
    { type: 'response.completed', response: { usage: { input_tokens: 900, output_tokens: 100, total_tokens: 1000 } } },
    [900, undefined, undefined, 100],
  ],
  'OpenAI transcription': [
    {
      text: 'x',
      usage: { type: 'tokens', input_tokens: 900, input_token_details: { text_tokens: 0, audio_tokens: 900 }, output_tokens: 100, total_tokens: 1000 },
    },
    [900, undefined, undefined, 100],
  ],
  DeepSeek: [
    { usage: { prompt_tokens: 900, completion_tokens: 100, total_tokens: 1000, prompt_cache_hit_tokens: 800, prompt_cache_miss_tokens: 100 } },
    [900, 800, undefined, 100],
  ],
  'xAI, reasoning beside the output': [
    { usage: { prompt_tokens: 900, completion_tokens: 60, total_tokens: 1000, completion_tokens_details: { reasoning_tokens: 40 } } },
    [900, undefined, undefined, 100],
  ],
  Anthropic: [
    { usage: { input_tokens: 100, cache_creation_input_tokens: 300, cache_read_input_tokens: 500, output_tokens: 100, service_tier: 'standard' } },
    [900, 500, 300, 100],
  ],
  'Anthropic, cache writes by their lifetime alone': [
    {
      usage: {
        input_tokens: 100,
        cache_creation: { ephemeral_5m_input_tokens: 200, ephemeral_1h_input_tokens: 100 },
        cache_read_input_tokens: 500,
        output_tokens: 100,
      },
    },
    [900, 500, 300, 100],
  ],
  "the first event of Anthropic's stream": [
    { type: 'message_start', message: { usage: { input_tokens: 900, cache_creation_input_tokens: 0, cache_read_input_tokens: 0, output_tokens: 1 } } },
    [900, 0, 0, 1],
  ],
  'a gateway with the prompt of OpenAI and the cache of Anthropic in it': [
    { usage: { prompt_tokens: 900, completion_tokens: 100, total_tokens: 1000, cache_read_input_tokens: 500, cache_creation_input_tokens: 300 } },
    [900, 500, 300, 100],
  ],
  'a gateway with the cache of Anthropic beside the prompt': [
    { usage: { prompt_tokens: 100, completion_tokens: 100, total_tokens: 1000, cache_read_input_tokens: 500, cache_creation_input_tokens: 300 } },
    [900, 500, 300, 100],
  ],
  'Bedrock Converse': [
    { usage: { inputTokens: 100, outputTokens: 100, totalTokens: 1000, cacheReadInputTokens: 500, cacheWriteInputTokens: 300 } },
    [900, 500, 300, 100],
  ],
  'Bedrock Converse without a cache': [{ usage: { inputTokens: 900, outputTokens: 100, totalTokens: 1000 } }, [900, undefined, undefined, 100]],
  'Bedrock, metrics of an invocation': [
    { 'amazon-bedrock-invocationMetrics': { inputTokenCount: 900, outputTokenCount: 100, invocationLatency: 5 } },
    [900, undefined, undefined, 100],
  ],
  'Gemini, thoughts beside the candidates': [
    { usageMetadata: { promptTokenCount: 900, cachedContentTokenCount: 800, candidatesTokenCount: 60, thoughtsTokenCount: 40, totalTokenCount: 1000 } },
    [900, 800, undefined, 100],
  ],
  'Gemini, tools beside the prompt': [
    { usageMetadata: { promptTokenCount: 850, toolUsePromptTokenCount: 50, candidatesTokenCount: 100, totalTokenCount: 1000 } },
    [900, undefined, undefined, 100],
  ],
  'Gemini that has only thought': [
    { usageMetadata: { promptTokenCount: 900, thoughtsTokenCount: 100, totalTokenCount: 1000 } },
    [900, undefined, undefined, 100],
  ],
  'Vertex, in the names of its Python client': [
    { usage_metadata: { prompt_token_count: 900, candidates_token_count: 100, total_token_count: 1000 } },
    [900, undefined, undefined, 100],
  ],
  'Cohere 1': [
    { meta: { billed_units: { input_tokens: 890, output_tokens: 100 }, tokens: { input_tokens: 900, output_tokens: 100 } } },
    [900, undefined, undefined, 100],
  ],
  'Cohere 2': [
    { usage: { billed_units: { input_tokens: 890, output_tokens: 100 }, tokens: { input_tokens: 900, output_tokens: 100 }, cached_tokens: 0 } },
    [900, undefined, undefined, 100],
  ],
  'Cohere embeddings': [{ meta: { billed_units: { input_tokens: 900 } } }, [900, undefined, undefined, undefined]],
  Ollama: [{ message: { content: 'x' }, done: true, prompt_eval_count: 900, eval_count: 100 }, [900, undefined, undefined, 100]],
  'AI SDK 4': [{ text: 'x', usage: { promptTokens: 900, completionTokens: 100, totalTokens: 1000 } }, [900, undefined, undefined, 100]],
  'AI SDK 5': [{ usage: { inputTokens: 900, outputTokens: 100, totalTokens: 1000, reasoningTokens: 20, cachedInputTokens: 800 } }, [900, 800, undefined, 100]],
  "AI SDK 5 with Anthropic's cache beside the input": [
    { usage: { inputTokens: 100, outputTokens: 100, totalTokens: 200, cachedInputTokens: 800 } },
    [900, 800, undefined, 100],
  ],
  'AI SDK 5, several steps': [
    { usage: { inputTokens: 500, outputTokens: 50, totalTokens: 550 }, totalUsage: { inputTokens: 900, outputTokens: 100, totalTokens: 1000 } },
    [900, undefined, undefined, 100],
  ],
  'AI SDK 6': [
    {
      usage: {
        inputTokens: 900,
        inputTokenDetails: { noCacheTokens: 50, cacheReadTokens: 800, cacheWriteTokens: 50 },
        outputTokens: 100,
        outputTokenDetails: { textTokens: 90, reasoningTokens: 10 },
        totalTokens: 1000,
      },
    },
    [900, 800, 50, 100],
  ],
  'a provider of the AI SDK 6': [
    { usage: { inputTokens: { total: 900, noCache: 50, cacheRead: 800, cacheWrite: 50 }, outputTokens: { total: 100, text: 90, reasoning: 10 } } },
    [900, 800, 50, 100],
  ],
  'LangChain, a message': [
    {
      content: 'x',
      usage_metadata: { input_tokens: 900, output_tokens: 100, total_tokens: 1000, input_token_details: { cache_read: 800, cache_creation: 50 } },
    },
    [900, 800, 50, 100],
  ],
  'LangChain, metadata of a response': [
    { response_metadata: { tokenUsage: { promptTokens: 900, completionTokens: 100, totalTokens: 1000 } } },
    [900, undefined, undefined, 100],
  ],
  'LangChain, an LLMResult': [{ generations: [], llmOutput: { tokenUsage: { promptTokens: 900, completionTokens: 100 } } }, [900, undefined, undefined, 100]],
}

test.each(Object.entries(FORMS))('%s', (_name, [answer, [inputTokens, cachedInputTokens, cacheWriteTokens, outputTokens]]) => {
  const expected = { inputTokens, cachedInputTokens, cacheWriteTokens, outputTokens }
  expect(usageOfResult(answer)).toEqual(expected)
  expect(usageOfResult({ status: 200, output: answer }), 'as the output of a handler').toEqual(expected)
  expect(bringsUsage(answer)).toBe(true)
})

test('a total alone is the tokens, as Voyage reports it', () => {
  expect(usageOfResult({ data: [], usage: { total_tokens: 900 } })).toEqual({ tokens: 900 })
})

test.each<[string, unknown]>([
  ['a duration', { usage: { type: 'duration', seconds: 90 } }],
  ['zeros of an interrupted stream', { usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 } }],
  ['strings', { usage: { prompt_tokens: '900', completion_tokens: '100' } }],
  ['nulls', { usage: { prompt_tokens: null, completion_tokens: null, total_tokens: null } }],
  ['NaN', { usage: { promptTokens: Number.NaN, completionTokens: Number.NaN } }],
  ['a text', { usage: 'much' }],
  ['a promise', { usage: Promise.resolve({ tokens: 1 }) }],
  ['searches', { meta: { billed_units: { search_units: 1 } } }],
  ['that of an output', { status: 200, output: { usage: { seconds: 3 } } }],
])('%s is a usage that cannot be read', (_name, answer) => {
  expect(usageOfResult(answer)).toBeUndefined()
  expect(bringsUsage(answer)).toBe(true)
})

test.each([[{ choices: [] }], [null], [undefined], ['text'], [5], [{ usage: null }], [{ meta: { api_version: '1' } }], [{ response: 'x', message: 'usage' }]])(
  '%j brings no usage',
  (answer) => {
    expect(usageOfResult(answer)).toBeUndefined()
    expect(bringsUsage(answer)).toBe(false)
  },
)

const merged = (...parts: CallUsage[]) => parts.reduce(mergeParts, {})

test('parts of a stream are merged field by field, and never fall', () => {
  const anthropic = [{ input_tokens: 25, cache_read_input_tokens: 75, output_tokens: 1 }, { output_tokens: 90 }, { output_tokens: 40 }]
  expect(merged(...anthropic.map((usage) => usageOfResult({ usage }) ?? {}))).toEqual({ inputTokens: 100, cachedInputTokens: 75, outputTokens: 90 })
  expect(merged({ tokens: 200 }, { tokens: 180 }, { tokens: Number.NaN })).toEqual({ tokens: 200 })
  expect(totalTokens(merged({ tokens: 100 }, { inputTokens: 80 }, { outputTokens: 50 }))).toBe(130)
  expect(merged({ usd: 2, points: 1 }, { usd: 1, points: 3, requests: 2 })).toEqual({ usd: 2, points: 3, requests: 2 })
})

test('the last report counts, completed by what only parts said', () => {
  const parts = { tokens: 200, inputTokens: 100, outputTokens: 100, cachedInputTokens: 60 }
  const total = (last: CallUsage | undefined, before: CallUsage | undefined) => totalTokens(completed(last, before) ?? {})
  expect(completed({ outputTokens: 30 }, parts)).toMatchObject({ inputTokens: 100, outputTokens: 30, cachedInputTokens: 60 })
  expect(total({ outputTokens: 30 }, parts)).toBe(130)
  expect(total({ tokens: 130 }, parts)).toBe(130)
  expect(total({ inputTokens: 50, outputTokens: 30 }, parts)).toBe(80)
  expect(total({ inputTokens: 250 }, { tokens: 200 })).toBe(250)
  expect(total({ usd: 5 }, parts)).toBe(200)
  expect([total(undefined, parts), total({ tokens: 5 }, undefined), completed(undefined, undefined)]).toEqual([200, 5, undefined])
})
