/** How often an endpoint is decoded to look for what servers misread: each proxy on the way may decode once. */
const MOST_DECODINGS = 5
const PLAIN = /^(?:\/[A-Za-z0-9_~@:!$'()*,;=&+-][A-Za-z0-9._~@:!$'()*,;=&+-]*)+\/?$/
/** What a server reads in another way than it is written: a dot segment (also with a parameter, as Java servers cut it off), a backslash, a control character. */
const MISREAD = /(?:^|\/)\.{1,2}(?:;[^/]*)?(?:\/|$)|\\|\p{Cc}/u

/** Whether an endpoint is in its one spelling, by its looks; false means "ask `normalEndpoint`". */
export function isPlainEndpoint(text: string): boolean {
  return PLAIN.test(text)
}

/** Percent-encodings in their one form: none of what may stand as it is, in capitals where it stays. */
function encoded(text: string): string {
  return text.replace(/%(?![0-9A-Fa-f]{2})|[^\x21-\x7e]|["<>\\^`{|}]/gu, encodeURIComponent).replace(/%[0-9A-Fa-f]{2}/g, (code) => {
    const char = String.fromCharCode(Number.parseInt(code.slice(1), 16))
    return /[A-Za-z0-9._~@:!$'()*,-]/.test(char) ? char : code.toUpperCase()
  })
}

/** A path, or a glob of paths, in its one spelling. */
export function normalPath(path: string): string {
  return encoded(path).replace(/\/{2,}/g, '/')
}

/**
 * The one spelling of an endpoint, under which it is matched, counted, blocked and sent: a path that begins with one slash, and a query where it has one.
 * Null where it is none: a URL, or a path that servers read in different ways, so that it might lead out of the agent's `baseUrl`.
 */
export function normalEndpoint(given: string): string | null {
  const [text = ''] = given.split('#', 1)
  const mark = text.indexOf('?')
  const path = mark < 0 ? text : text.slice(0, mark)
  if (/^[A-Za-z][A-Za-z0-9+.-]*:\/\//.test(path)) return null
  let decoded = path
  for (let n = 0; n < MOST_DECODINGS && !MISREAD.test(decoded); n++) decoded = decoded.replace(/%[0-7][0-9A-Fa-f]/g, decodeURIComponent)
  if (MISREAD.test(decoded)) return null
  const query = mark < 0 ? '' : text.slice(mark + 1)
  return normalPath(`/${path}`) + (query === '' ? '' : `?${encoded(query)}`)
}

/** An endpoint without its query: what it is counted by. */
export function endpointPath(endpoint: string): string {
  const mark = endpoint.indexOf('?')
  return mark < 0 ? endpoint : endpoint.slice(0, mark)
}
