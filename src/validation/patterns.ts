/** Compiles a glob to a check of a whole value: * stands for any characters, ? for one. */
export function compileGlob(glob: string): (value: string) => boolean {
  if (!isGlob(glob)) return (value) => value === glob
  const pattern = [...glob]
  return (value) => matchesGlob(pattern, [...value])
}

export function isGlob(text: string): boolean {
  return /[*?]/.test(text)
}

/** Backtracks to the last star only, so the time is bounded by the length of the pattern times that of the value. */
function matchesGlob(pattern: readonly string[], value: readonly string[]): boolean {
  let at = 0
  let star = -1
  let resumeAt = 0
  for (let i = 0; i < value.length; ) {
    if (pattern[at] === '*') {
      star = at++
      resumeAt = i
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === value[i])) {
      at++
      i++
    } else if (star >= 0) {
      at = star + 1
      i = ++resumeAt
    } else return false
  }
  while (pattern[at] === '*') at++
  return at === pattern.length
}
