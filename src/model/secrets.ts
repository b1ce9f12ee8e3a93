/** A secret in a URL: user and password before its host, or a key in its query. */
const CREDENTIALS = /(:\/\/)[^\s"'<>]*@|([?&][\w.-]*(?:key|token|secret|password|signature|sig)[\w.-]*=)[^&\s"'<>#]+/gi

/** A text without the secrets of the URLs in it, of at most so many characters. */
export function withoutCredentials(text: string, most = Number.POSITIVE_INFINITY): string {
  const part = text.length > most ? `${text.slice(0, most)}… (${text.length} characters)` : text
  return part.includes('://') || part.includes('=')
    ? part.replace(CREDENTIALS, (_, before?: string, key?: string) => (before === undefined ? `${key}…` : `${before}…@`))
    : part
}

/**
 * Removes the arguments of a Redis command, which may be passwords or payloads, and the credentials of URLs from an error and its causes. ioredis puts
 * the command on its errors, and Redis quotes arguments in its message about an unknown command. Returns the same error; never throws.
 */
export function withoutArguments<T>(error: T, seen = new Set<unknown>()): T {
  if (!(error instanceof Error) || seen.has(error)) return error
  seen.add(error)
  try {
    const { command, previousErrors = [] } = error as { command?: { args?: unknown }; previousErrors?: readonly unknown[] }
    if (Array.isArray(command?.args)) Reflect.deleteProperty(error, 'command')
    for (const field of ['message', 'stack'] as const) {
      const text = error[field]
      const plain = typeof text === 'string' ? withoutCredentials(text.replace(/, with args beginning with:.*/g, '')) : text
      if (plain !== text) Reflect.set(error, field, plain)
    }
    for (const inner of [error.cause, ...previousErrors]) withoutArguments(inner, seen)
  } catch {
    // An error of a user's code, whose getters throw.
  }
  return error
}
