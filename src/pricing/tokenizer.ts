import { setImmediate as nextTurn } from 'node:timers/promises'

/** The longest text that is counted at once. */
const PIECE = 1024
/** A word longer than this is cut: the tokenizer's time grows with the square of its length (a megabyte of one letter takes minutes). */
const LONGEST_WORD = 128
const LONG_RUN = new RegExp(`\\S{${LONGEST_WORD}}|\\s{${LONGEST_WORD}}`)
/** Of a longer text so much is counted, in pieces from all over it, and the rest in proportion. */
const COUNTED_AT_MOST = 65_536
/** Shorter texts are counted in one go. */
const UNINTERRUPTED = 4096
/** For how long all counting together may hold the event loop in one of its turns. */
const HOLD_MS = 8

let heldUntilMs = 0
let turn: Promise<void> | undefined

/** Waits for the next turn of the event loop where this one has been held for long enough: one wait for all counts under way. */
async function breathe(): Promise<void> {
  while (performance.now() >= heldUntilMs) {
    turn ??= nextTurn().then(() => {
      heldUntilMs = performance.now() + HOLD_MS
      turn = undefined
    })
    await turn
  }
}

/** The end of the piece that begins there: at a space, where that does not matter to the tokenizer, or in a word that is too long. */
function endOfPiece(text: string, from: number): number {
  const piece = text.slice(from, from + PIECE)
  const long = piece.search(LONG_RUN)
  if (long >= 0) return from + (long || LONGEST_WORD)
  if (from + PIECE >= text.length) return text.length
  const space = piece.search(/\s\S*$/)
  return from + (space > 0 ? space : PIECE)
}

const NO_SPECIALS = { disallowedSpecial: new Set<string>() }

type Count = typeof import('gpt-tokenizer').countTokens
/** The tokenizer, once it is loaded: `import()` of a module that is there costs more than to count the tokens of a short text. */
let loaded: Count | undefined

/** The number of tokens of texts, by OpenAI's encoding o200k_base; of long ones a close estimate. The tokenizer is loaded at its first use: it is large. */
export async function countTokens(texts: readonly string[]): Promise<number> {
  loaded ??= (await import('gpt-tokenizer')).countTokens
  const count = loaded
  let sum = 0
  for (const text of texts) {
    const skip = Math.max(0, text.length / COUNTED_AT_MOST - 1)
    let counted = 0
    let tokens = 0
    for (let from = 0; from < text.length; ) {
      if (text.length > UNINTERRUPTED) await breathe()
      const to = endOfPiece(text, from)
      tokens += count(text.slice(from, to), NO_SPECIALS)
      counted += to - from
      from = to + Math.floor((to - from) * skip)
    }
    sum += counted < text.length && counted > 0 ? Math.ceil((tokens * text.length) / counted) : tokens
  }
  return sum
}
