import { type Call, MAX_AMOUNT } from '../model/call.js'
import { DEFAULTS } from '../model/defaults.js'
import { CallInvalid } from '../model/errors.js'
import { jsonOf } from '../validation/call.js'
import { mediaTokens, pictureOf } from './media.js'

/** What a payload makes a model read: texts, which the tokenizer counts, and tokens that are known otherwise. */
export interface PayloadInput {
  readonly texts: string[]
  tokens: number
}

/** OpenAI's chat format adds these tokens to each message, and to the reply. */
const TOKENS_PER_MESSAGE = 3
const TOKENS_OF_REPLY = 3

/** What a model reads of a payload, in the fields of all APIs. Where a payload has none of them, all of it counts. */
export const CONTENT = [
  'messages',
  'input',
  'contents',
  'content',
  'prompt',
  'suffix',
  'message',
  'chat_history',
  'query',
  'documents',
  'texts',
  'inputs',
  'inputText',
  'requests',
]
const INSTRUCTIONS = ['system', 'instructions', 'systemInstruction', 'system_instruction', 'preamble']
const DEFINITIONS = ['tools', 'functions', 'toolConfig', 'response_format', 'text', 'output_config', 'output_format', 'format']
/** PayloadFields of a message or part that frame it: a model does not read them. */
const FRAME = new Set([
  'type',
  'role',
  'id',
  'call_id',
  'tool_call_id',
  'tool_use_id',
  'toolUseId',
  'cache_control',
  'status',
  'signature',
  'thoughtSignature',
  'encrypted_content',
  'index',
  'detail',
])
/** PayloadFields that hold what a tool is given, or answers, as JSON. */
const AS_JSON = new Set(['input', 'args', 'arguments', 'response', 'json', 'parameters', 'schema'])
/** Where clients put the longest answer, in the objects that they put it in. */
const CAPS = /^(max(imum)?_?(completion_|output_|new_)?tokens(_to_sample)?|max_?(output|new|gen)_?(tokens|len)|max_?token_?count|num_predict|n_predict)$/i
const SETTINGS = ['generationConfig', 'generation_config', 'inferenceConfig', 'textGenerationConfig', 'options', 'parameters']
const ANSWERS = new Set(['n', 'best_of', 'candidateCount', 'candidate_count', 'num_generations', 'num_return_sequences'])
const WITHOUT_ANSWER = /embed|rerank|moderation|voyage-|bge-/i
const ONLY_EMBEDDED = ['texts', 'encoding_format', 'input_type', 'requests', 'embeddingTypes', 'taskType']

type PayloadFields = Readonly<Record<string, unknown>>

function fieldsOf(value: unknown): PayloadFields {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as PayloadFields) : {}
}

/** Adds a value that the model reads as JSON, without what is no text in it. */
function addJson(value: unknown, to: PayloadInput): void {
  if (value === undefined) return
  if (typeof value === 'string') to.texts.push(value)
  else
    to.texts.push(
      jsonOf(value, (_name, one: unknown) => {
        const media = one !== null && typeof one === 'object' ? mediaTokens(one) : undefined
        if (media !== undefined) to.tokens += media
        return media === undefined ? one : ''
      }),
    )
}

/** Adds messages, parts of them, or whatever else a model reads. */
function add(value: unknown, to: PayloadInput): void {
  if (typeof value === 'string') to.texts.push(value)
  else if (Array.isArray(value)) {
    // Ids of tokens, as embeddings take them.
    if (value.length > 0 && value.every((one) => typeof one === 'number')) to.tokens += value.length
    else for (const one of value) add(one, to)
  } else if (value !== null && typeof value === 'object') {
    const media = mediaTokens(value)
    if (media !== undefined) {
      to.tokens += media
      return
    }
    for (const [name, one] of Object.entries(value)) {
      if (FRAME.has(name)) continue
      // Ollama has them beside the text.
      if (name === 'images' && Array.isArray(one)) for (const image of one) to.tokens += pictureOf(String(image))
      else if (AS_JSON.has(name) && typeof one === 'object') addJson(one, to)
      else add(one, to)
    }
  }
}

/** @throws CallInvalid where the payload is nested too deeply, or cannot be written as JSON */
export function inputOf({ payload, endpoint = '', model = '' }: Call): PayloadInput {
  const input: PayloadInput = { texts: [], tokens: 0 }
  const of = fieldsOf(payload)
  const contents = CONTENT.filter((name) => of[name] !== undefined && of[name] !== null)
  try {
    if (contents.length === 0) {
      addJson(payload, input)
      return input
    }
    for (const name of [...contents, ...INSTRUCTIONS]) {
      const value = of[name]
      add(value, input)
      const frames = Array.isArray(value) ? (name === 'messages' ? value.length : value.filter((one) => 'role' in fieldsOf(one)).length) : 0
      input.tokens += TOKENS_PER_MESSAGE * (frames || (INSTRUCTIONS.includes(name) && value !== undefined && value !== '' ? 1 : 0))
    }
    if (!hasNoAnswer(of, endpoint, model)) input.tokens += TOKENS_OF_REPLY
    for (const name of DEFINITIONS) if (typeof of[name] === 'object' && of[name] !== null) addJson(of[name], input)
    add({ images: of['images'] }, input)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new CallInvalid('payload: is nested too deeply, or contains itself')
  }
  return input
}

function hasNoAnswer(of: PayloadFields, endpoint: string, model: string): boolean {
  const named = typeof of['model'] === 'string' ? of['model'] : ''
  return WITHOUT_ANSWER.test(endpoint) || WITHOUT_ANSWER.test(model) || WITHOUT_ANSWER.test(named) || ONLY_EMBEDDED.some((name) => of[name] !== undefined)
}

/**
 * The most output tokens of a call: the largest cap that its payload has, else `uncapped`, for each answer that it asks for; 0 of embeddings. May exceed
 * MAX_AMOUNT. It stands on the way of every call whose tokens are estimated: it makes no lists.
 */
export function outputBound({ payload, endpoint = '', model = '' }: Call, uncapped: number = DEFAULTS.outputTokens): number {
  const of = fieldsOf(payload)
  let cap = -1
  let answers = 1
  const look = (one: PayloadFields) => {
    for (const name in one) {
      const value = one[name]
      if (typeof value !== 'number') continue
      if (value > cap && CAPS.test(name)) cap = value
      if (value > answers && ANSWERS.has(name)) answers = Math.floor(value)
    }
  }
  look(of)
  for (const name of SETTINGS) {
    const settings = of[name]
    if (settings !== undefined) look(fieldsOf(settings))
  }
  if (cap < 0 && hasNoAnswer(of, endpoint, model)) return 0
  return (cap < 0 ? uncapped : cap) * Math.min(answers, MAX_AMOUNT)
}
