/** Rows as a table for a terminal: columns as wide as what is in them, numbers to the right. Control characters of names are left out. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const plain = [heads, ...rows].map((row) => row.map((cell) => cell.replace(/\p{Cc}/gu, '')))
  const widths = heads.map((_, column) => Math.max(...plain.map((row) => [...(row[column] ?? '')].length)))
  const isNumeric = heads.map((_, column) => rows.length > 0 && rows.every((row) => /^[–$]?[\d,.]*( %)?$/.test(row[column] ?? '')))
  const padded = (cell: string, column: number) => {
    const space = ' '.repeat(Math.max(0, (widths[column] ?? 0) - [...cell].length))
    return isNumeric[column] === true ? space + cell : cell + space
  }
  return plain.map((row) => row.map(padded).join('  ').trimEnd()).join('\n')
}
