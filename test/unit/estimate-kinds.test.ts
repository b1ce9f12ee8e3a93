import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { CallInvalid } from '../../src/model/errors.js'
import { estimateChat } from '../../src/pricing/estimate.js'

const QUESTION = [{ role: 'user', content: 'What is in this picture?' }]
const NOISE = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) & 255)).toString('base64')
const LOREM = 'lorem ipsum dolor '.repeat(1100)
const TOOLS = Array.from({ length: 40 }, (_, i) => ({
  name: `tool_${i}`,
  description: `Searches the catalogue of products by name, category, price range and availability in a given region number ${i}`,
  parameters: {
    type: 'object',
    properties: {
      query: { type: 'string', description: 'what to look for, in the words of the customer' },
      region: { type: 'string', enum: ['eu', 'us', 'apac'] },
    },
    required: ['query'],
  },
}))

/** The first bytes of a picture, as base64. */
const PICTURES = {
  png: (width: number, height: number) => {
    const bytes = Buffer.alloc(64)
    bytes.write('\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 0, 'latin1')
    bytes.writeUInt32BE(width, 16)
    bytes.writeUInt32BE(height, 20)
    return bytes.toString('base64')
  },
  jpeg: (width: number, height: number) => {
    const bytes = Buffer.alloc(64)
    Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 16]).copy(bytes)
    Buffer.from([0xff, 0xc2, 0, 17, 8, height >> 8, height & 255, width >> 8, width & 255]).copy(bytes, 20)
    return bytes.toString('base64')
  },
  gif: (width: number, height: number) => {
    const bytes = Buffer.alloc(64)
    bytes.write('GIF89a', 0, 'latin1')
    bytes.writeUInt16LE(width, 6)
    bytes.writeUInt16LE(height, 8)
    return bytes.toString('base64')
  },
  webp: (width: number, height: number) => {
    const bytes = Buffer.alloc(64)
    bytes.write('RIFF\0\0\0\0WEBPVP8 ', 0, 'latin1')
    bytes.writeUInt16LE(width, 26)
    bytes.writeUInt16LE(height, 28)
    return bytes.toString('base64')
  },
}

const ask = (part: unknown, more: object = {}) => ({
  messages: [{ role: 'user', content: [{ type: 'text', text: 'What is this?' }, part] }],
  max_tokens: 0,
  ...more,
})
const responses = (part: unknown) => ({ input: [{ role: 'user', content: [{ type: 'input_text', text: 'What is this?' }, part] }], max_output_tokens: 0 })
const gemini = (part: unknown) => ({ contents: [{ role: 'user', parts: [{ text: 'What is this?' }, part] }], generationConfig: { maxOutputTokens: 0 } })
const url = (mime: string, data: string) => `data:${mime};base64,${data}`

/** Payloads, and what their providers count: as they document it, or answered. */
const ROWS: [string, unknown, number][] = [
  ['text alone', { messages: QUESTION, max_tokens: 100 }, 112],
  ['chat, a picture of 400 KB', ask({ type: 'image_url', image_url: { url: url('image/png', NOISE) } }), 775],
  ['chat, a picture by its address', ask({ type: 'image_url', image_url: { url: 'https://a.example/x.png' } }), 775],
  ['chat, a picture in low detail', ask({ type: 'image_url', image_url: { url: url('image/png', NOISE), detail: 'low' } }), 95],
  ['chat, 512 × 512', ask({ type: 'image_url', image_url: { url: url('image/png', PICTURES.png(512, 512)) } }), 265],
  ['chat, 1024 × 1024', ask({ type: 'image_url', image_url: { url: url('image/jpeg', PICTURES.jpeg(1024, 1024)) } }), 775],
  ['chat, 2048 × 4096', ask({ type: 'image_url', image_url: { url: url('image/webp', PICTURES.webp(2048, 4096)) } }), 1115],
  ['chat, a pixel', ask({ type: 'image_url', image_url: { url: url('image/gif', PICTURES.gif(1, 1)) } }), 265],
  ['Anthropic, a picture of 400 KB', ask({ type: 'image', source: { type: 'base64', media_type: 'image/png', data: NOISE } }), 1578],
  ['Anthropic, 200 × 200', ask({ type: 'image', source: { type: 'base64', media_type: 'image/png', data: PICTURES.png(200, 200) } }), 64],
  ['Anthropic, 1092 × 1092', ask({ type: 'image', source: { type: 'base64', media_type: 'image/jpeg', data: PICTURES.jpeg(1092, 1092) } }), 1600],
  [
    'Anthropic, a picture that a tool answers with',
    ask({ type: 'tool_result', tool_use_id: 'x', content: [{ type: 'image', source: { type: 'base64', data: PICTURES.png(1000, 1000) } }] }),
    1343,
  ],
  ['Anthropic, a PDF of 10 pages', ask({ type: 'document', source: { type: 'base64', media_type: 'application/pdf', data: NOISE } }), 20_000],
  ['Anthropic, a text as a document', ask({ type: 'document', source: { type: 'text', media_type: 'text/plain', data: LOREM } }), 3310],
  ['Bedrock, a picture', ask({ image: { format: 'png', source: { bytes: new Uint8Array(Buffer.from(PICTURES.png(1000, 1000), 'base64')) } } }), 1343],
  ['Responses, a text', { input: 'What is in this picture?', max_output_tokens: 100 }, 113],
  ['Responses, a picture of 400 KB', responses({ type: 'input_image', image_url: url('image/png', NOISE) }), 1049],
  ['Responses, a file', responses({ type: 'input_file', file_data: url('application/pdf', NOISE) }), 20_000],
  ['Gemini, a picture of 400 KB', gemini({ inlineData: { mimeType: 'image/png', data: NOISE } }), 1042],
  ['Gemini, a small picture', gemini({ inline_data: { mime_type: 'image/png', data: PICTURES.png(300, 300) } }), 268],
  ['Gemini, 10 s of sound', gemini({ inlineData: { mimeType: 'audio/wav', data: Buffer.alloc(320_000).toString('base64') } }), 330],
  ['chat, 10 s of sound', ask({ type: 'input_audio', input_audio: { format: 'mp3', data: Buffer.alloc(160_000).toString('base64') } }), 110],
  ['Ollama, a picture', { messages: [{ role: 'user', content: 'What is this?', images: [PICTURES.jpeg(1000, 800)] }], options: { num_predict: 0 } }, 1076],
  ['the AI SDK, a picture', ask({ type: 'image', image: PICTURES.png(1000, 1000), mediaType: 'image/png' }), 1343],
  ['chat, 40 tools', { messages: QUESTION, tools: TOOLS.map((one) => ({ type: 'function', function: one })), max_tokens: 100 }, 2500],
  ['Anthropic, 40 tools', { messages: QUESTION, tools: TOOLS.map(({ parameters, ...one }) => ({ ...one, input_schema: parameters })), max_tokens: 100 }, 3900],
  ['Gemini, 40 tools', { contents: QUESTION, tools: [{ functionDeclarations: TOOLS }], generationConfig: { maxOutputTokens: 100 } }, 2600],
  [
    'chat, a call of a tool',
    {
      messages: [
        ...QUESTION,
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'x', type: 'function', function: { name: 'write', arguments: JSON.stringify({ text: LOREM }) } }],
        },
      ],
      max_tokens: 0,
    },
    3325,
  ],
  [
    'Anthropic, a call of a tool',
    { messages: [...QUESTION, { role: 'assistant', content: [{ type: 'tool_use', id: 'x', name: 'write', input: { text: LOREM } }] }], max_tokens: 0 },
    3325,
  ],
  ['Responses, what a tool answers', { input: [{ type: 'function_call_output', call_id: 'x', output: LOREM }], max_output_tokens: 0 }, 3310],
  [
    'Gemini, what a tool answers',
    { contents: [{ role: 'user', parts: [{ functionResponse: { name: 'f', response: { text: LOREM } } }] }], generationConfig: { maxOutputTokens: 0 } },
    3310,
  ],
  ['instructions', { instructions: LOREM, input: 'hello', max_output_tokens: 0 }, 3315],
  [
    'a system instruction of Gemini',
    { systemInstruction: { parts: [{ text: LOREM }] }, contents: [{ parts: [{ text: 'hello' }] }], generationConfig: { maxOutputTokens: 0 } },
    3315,
  ],
  ['10 answers', { messages: QUESTION, n: 10, max_tokens: 100 }, 1012],
  ['10 candidates', { contents: QUESTION, generationConfig: { candidateCount: 10, maxOutputTokens: 100 } }, 1012],
  ['thinking within the cap', { messages: QUESTION, max_tokens: 20_000, thinking: { type: 'enabled', budget_tokens: 16_000 } }, 20_012],
  ['embeddings of a sentence', { model: 'text-embedding-3-small', input: 'What is in this picture?' }, 6],
  ['embeddings of sentences', { model: 'text-embedding-3-small', input: Array(10).fill('What is in this picture?') }, 60],
  ['embeddings of 2,000 ids', { model: 'text-embedding-3-small', input: [Array.from({ length: 2000 }, (_, i) => 1000 + i)] }, 2000],
  ['embeddings of Cohere', { texts: ['What is in this picture?'], input_type: 'search_query' }, 6],
  ['a completion', { prompt: 'What is in this picture?', max_tokens: 100 }, 106],
  ['special tokens as text', { messages: [{ role: 'user', content: 'stop at <|endoftext|> and <|im_start|>' }], max_tokens: 0 }, 20],
  ['300 KB of one letter', { messages: [{ role: 'user', content: 'a'.repeat(300_000) }], max_tokens: 0 }, 37_500],
  ['300 KB of dashes', { messages: [{ role: 'user', content: '-'.repeat(300_000) }], max_tokens: 0 }, 4690],
  ['300 KB of prose', { messages: [{ role: 'user', content: 'the patient was stable. '.repeat(12_500) }], max_tokens: 0 }, 62_500],
  ['100,000 Chinese characters', { messages: [{ role: 'user', content: '汉字处理测试'.repeat(16_667) }], max_tokens: 0 }, 66_668],
  ['emoji', { messages: [{ role: 'user', content: '😀👩‍👩‍👧'.repeat(6000) }], max_tokens: 0 }, 54_000],
]

test.each(ROWS)('%s is estimated within twice of what its provider counts', async (_name, payload, truth) => {
  const { inputTokens, outputTokens } = await estimateChat({ agent: 'a', payload })
  const estimate = inputTokens + outputTokens
  expect(estimate).toBeGreaterThanOrEqual(truth / 2)
  expect(estimate).toBeLessThanOrEqual(truth * 2)
})

test.each([
  ['max_tokens', { max_tokens: 900 }],
  ['max_completion_tokens', { max_completion_tokens: 900 }],
  ['max_output_tokens', { max_output_tokens: 900 }],
  ['maxOutputTokens', { generationConfig: { maxOutputTokens: 900 } }],
  ['maxTokens', { inferenceConfig: { maxTokens: 900 } }],
  ['maxTokenCount', { textGenerationConfig: { maxTokenCount: 900 } }],
  ['num_predict', { options: { num_predict: 900 } }],
  ['max_new_tokens', { parameters: { max_new_tokens: 900 } }],
  ['max_gen_len', { max_gen_len: 900 }],
  ['max_tokens_to_sample', { max_tokens_to_sample: 900 }],
])('the cap %s counts, and of several the largest', async (_name, cap) => {
  expect((await estimateChat({ agent: 'a', payload: { prompt: 'x', ...cap } })).outputTokens).toBe(900)
  expect((await estimateChat({ agent: 'a', payload: { prompt: 'x', max_tokens: 1, max_completion_tokens: null, ...cap } })).outputTokens).toBe(900)
})

test('a payload that is nested too deeply is an error of ours', async () => {
  let deep: unknown = 'x'
  for (let n = 0; n < 100_000; n++) deep = { content: [deep] }
  await expect(estimateChat({ agent: 'a', payload: { messages: [deep] } })).rejects.toThrow(CallInvalid)
  await expect(estimateChat({ agent: 'a', payload: { unknown: deep } })).rejects.toThrow(
    /^payload: must be something that JSON can hold \(it is nested too deeply\)/,
  )
})

test('counting random letters holds the event loop for a few milliseconds at a time', async () => {
  await estimateChat({ agent: 'a', payload: 'the tokenizer is loaded' })
  const letters = () => Array.from({ length: 300_000 }, () => String.fromCharCode(97 + Math.random() * 26)).join('')
  const payloads = [{ messages: [{ content: letters() }] }, { input: letters() }, letters()]
  let done = false
  const counted = Promise.all(payloads.map((payload) => estimateChat({ agent: 'a', payload }))).then((estimates) => {
    done = true
    return estimates
  })
  // By CPU time, which other processes of a busy machine do not lengthen.
  const heldMs: number[] = []
  await nextTurn()
  while (!done) {
    const before = process.cpuUsage()
    await nextTurn()
    const { user, system } = process.cpuUsage(before)
    heldMs.push((user + system) / 1000)
  }
  for (const { inputTokens } of await counted) expect(inputTokens).toBeGreaterThan(120_000)
  heldMs.sort((a, b) => a - b)
  expect(heldMs.length).toBeGreaterThan(20)
  expect(heldMs[Math.floor(heldMs.length * 0.9)]).toBeLessThan(20)
})
