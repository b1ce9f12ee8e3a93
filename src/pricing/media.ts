/** What a part of a payload is that is no text; sizes are in bytes. */
interface Media {
  readonly mime: string
  readonly data?: string | undefined
  readonly bytes: number
  readonly low: boolean
}

/** Tokens of what is known by an address only, or has no size that can be read. Close to what a photo, a minute or some pages cost. */
const UNKNOWN = { image: 1000, audio: 1000, video: 15_000, file: 5000 } as const
type Kind = keyof typeof UNKNOWN
const LOW_DETAIL = 85
/** OpenAI cuts a picture to 2048 × 2048, then to a shorter side of 768, and charges its tiles of 512. */
const TILE = { side: 512, tokens: 170, base: 85 }
const LARGEST_SIDE = 2048
const SHORTER_SIDE = 768
/** Anthropic charges a token for so many pixels, up to a bound. */
const PIXELS_PER_TOKEN = 750
const MOST_OF_PIXELS = 1600
/** Tokens of a second of sound, and the bytes of one at usual rates. */
const SOUND = { tokens: 10, ofGemini: 32, wavBytes: 32_000, bytes: 16_000 }
/** Of a film at a usual rate, of a text, and of a PDF. */
const BYTES_PER_TOKEN = { video: 1000, text: 4, file: 25 }

const TYPE = /^(?:input_)?(image|audio|video|file|document|media)(?:_url|_file|_data)?$/
const FIELDS = ['inlineData', 'inline_data', 'fileData', 'image', 'audio', 'video', 'document'] as const
const EXTENSIONS: Readonly<Record<string, Kind>> = {
  png: 'image',
  jpeg: 'image',
  jpg: 'image',
  gif: 'image',
  webp: 'image',
  wav: 'audio',
  mp3: 'audio',
  mp4: 'video',
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : {}
}

/** What the fields of a part say of its content; looks three levels deep, as deep as any API goes. */
function read(value: unknown, type: string, depth = 3): Media {
  let found: Media = { mime: type, bytes: 0, low: false }
  const take = ({ mime, data, bytes, low }: Media) => {
    found = {
      mime: mime === type ? found.mime : mime,
      low: low || found.low,
      ...(bytes > found.bytes ? { data, bytes } : { data: found.data, bytes: found.bytes }),
    }
  }
  for (const [name, one] of Object.entries(fieldsOf(value))) {
    if (typeof one === 'string') {
      const url = /^data:([^;,]*)[^,]*,/.exec(one.slice(0, 200))
      if (url !== null) take({ mime: url[1] || type, data: one.slice(url[0].length), bytes: (one.length * 3) / 4, low: false })
      else if (/^(mime_?type|media_?type|format)$/i.test(name)) take({ ...found, mime: one, bytes: 0 })
      else if (name === 'detail') take({ ...found, bytes: 0, low: one === 'low' })
      else if (one.length > 64 && !/^[a-z][a-z0-9+]*:/i.test(one.slice(0, 20)) && !/[\s{]/.test(one.slice(0, 200)))
        take({ mime: type, data: one, bytes: (one.length * 3) / 4, low: false })
    } else if (ArrayBuffer.isView(one) || (Array.isArray(one) && typeof one[0] === 'number')) {
      take({ mime: type, bytes: ArrayBuffer.isView(one) ? one.byteLength : one.length, low: false })
    } else if (depth > 0) take(read(one, type, depth - 1))
  }
  return found
}

/** Width and height of a picture, from its first bytes (PNG, GIF, WebP, JPEG); undefined where they cannot be read. */
function sizeOf(base64: string): readonly [number, number] | undefined {
  const bytes = Buffer.from(base64.slice(0, 65_536), 'base64')
  if (bytes.length < 30) return undefined
  if (bytes.toString('latin1', 1, 4) === 'PNG') return [bytes.readUInt32BE(16), bytes.readUInt32BE(20)]
  if (bytes.toString('latin1', 0, 3) === 'GIF') return [bytes.readUInt16LE(6), bytes.readUInt16LE(8)]
  if (bytes.toString('latin1', 8, 12) === 'WEBP') {
    const form = bytes.toString('latin1', 12, 16)
    if (form === 'VP8X') return [bytes.readUIntLE(24, 3) + 1, bytes.readUIntLE(27, 3) + 1]
    if (form === 'VP8L') return [(bytes.readUInt16LE(21) & 0x3fff) + 1, ((bytes.readUInt32LE(21) >> 14) & 0x3fff) + 1]
    return [bytes.readUInt16LE(26) & 0x3fff, bytes.readUInt16LE(28) & 0x3fff]
  }
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return undefined
  for (let at = 2; at + 9 < bytes.length; at += 2 + bytes.readUInt16BE(at + 2)) {
    const marker = bytes[at + 1] ?? 0
    // A start of frame, whichever coding; C4, C8 and CC are none.
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return [bytes.readUInt16BE(at + 7), bytes.readUInt16BE(at + 5)]
  }
  return undefined
}

function pictureTokens({ data, low }: Media, byPixels: boolean): number {
  if (low) return LOW_DETAIL
  const [width, height] = (data === undefined ? undefined : sizeOf(data)) ?? [0, 0]
  if (width === 0 || height === 0) return UNKNOWN.image
  if (byPixels) return Math.min(MOST_OF_PIXELS, Math.ceil((width * height) / PIXELS_PER_TOKEN))
  const fit = Math.min(1, LARGEST_SIDE / Math.max(width, height))
  const shrink = fit * Math.min(1, SHORTER_SIDE / (Math.min(width, height) * fit))
  const tiles = (side: number) => Math.ceil((side * shrink) / TILE.side)
  return TILE.base + TILE.tokens * tiles(width) * tiles(height)
}

function soundTokens({ mime, data = '', bytes }: Media, ofGemini: boolean): number {
  const head = Buffer.from(data.slice(0, 64), 'base64')
  const told = head.toString('latin1', 0, 4) === 'RIFF' ? head.readUInt32LE(28) : 0
  return Math.ceil((bytes / (told || (mime.includes('wav') ? SOUND.wavBytes : SOUND.bytes))) * (ofGemini ? SOUND.ofGemini : SOUND.tokens))
}

/**
 * The tokens of a picture, a sound, a film or a file in a payload, in the forms of OpenAI, Anthropic, Bedrock, Gemini, Ollama and the AI SDK.
 * Undefined where a part is none of them; then its text counts.
 */
export function mediaTokens(part: object): number | undefined {
  const of = fieldsOf(part)
  const named = String(of['type'])
  const type = TYPE.exec(named)?.[1] ?? FIELDS.find((name) => typeof of[name] === 'object' && of[name] !== null)
  const source = fieldsOf(of['source'])
  if (type === undefined || source['type'] === 'text' || source['type'] === 'content' || (named === 'document' && of['source'] === undefined)) return undefined
  const media = read(part, type)
  const kinds = ['image', 'audio', 'video'] as const
  const kind: Kind = kinds.find((one) => media.mime.startsWith(one)) ?? EXTENSIONS[media.mime] ?? kinds.find((one) => one === type) ?? 'file'
  if (kind === 'image') return pictureTokens(media, named === 'image' || (type === 'image' && of['type'] === undefined))
  if (media.bytes === 0) return UNKNOWN[kind]
  if (kind === 'audio') return soundTokens(media, type.startsWith('inline'))
  return Math.ceil(media.bytes / (media.mime.startsWith('text/') ? BYTES_PER_TOKEN.text : BYTES_PER_TOKEN[kind]))
}

/** The tokens of base64 that stands for a picture, without a word of it. */
export function pictureOf(base64: string): number {
  return pictureTokens({ mime: 'image', data: base64, bytes: 0, low: false }, true)
}
