/** A line of a text that stayed, came or went. */
export interface DiffLine {
  readonly kind: 'same' | 'added' | 'removed'
  readonly text: string
}

/** How two texts differ, line by line: the longest lines in common stay. */
export function lineDiff(before: string, after: string): DiffLine[] {
  const [old, fresh] = [before.trimEnd().split('\n'), after.trimEnd().split('\n')]
  // lengths[i][j]: how many lines the rests from i and from j on have in common.
  const lengths = Array.from({ length: old.length + 1 }, () => new Array<number>(fresh.length + 1).fill(0))
  const at = (i: number, j: number) => lengths[i]?.[j] ?? 0
  for (let i = old.length - 1; i >= 0; i--)
    for (let j = fresh.length - 1; j >= 0; j--) (lengths[i] as number[])[j] = old[i] === fresh[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
  const lines: DiffLine[] = []
  for (let i = 0, j = 0; i < old.length || j < fresh.length; ) {
    const [gone, come] = [old[i], fresh[j]]
    if (gone !== undefined && gone === come) {
      lines.push({ kind: 'same', text: gone })
      i++
      j++
    } else if (come === undefined || (gone !== undefined && at(i + 1, j) >= at(i, j + 1))) {
      lines.push({ kind: 'removed', text: gone ?? '' })
      i++
    } else {
      lines.push({ kind: 'added', text: come })
      j++
    }
  }
  return lines
}
