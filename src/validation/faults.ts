/** Shows a value in an error message, whatever it is and however long. */
export function show(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'bigint' || value === undefined) return String(value)
  let text: string
  try {
    text = JSON.stringify(value) ?? String(value)
  } catch {
    text = Object.prototype.toString.call(value)
  }
  return text.length > 80 ? `${text.slice(0, 77)}… (${text.length} characters)` : text
}

/** The value at a path of a validated input, for an error message. */
export function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value: unknown = input
  for (const key of path) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, key)) return undefined
    value = (value as Record<PropertyKey, unknown>)[key]
  }
  return value
}

/** The dotted path of a field, as an error message names it, whatever its length. */
export function fieldName(path: readonly PropertyKey[]): string {
  // Escaped: a name may hold what a log or a terminal would obey.
  const field = JSON.stringify(path.map(String).join('.')).slice(1, -1)
  return field.length > 80 ? `${field.slice(0, 77)}… (${field.length} characters)` : field
}
