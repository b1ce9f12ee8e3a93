import { styleText } from 'node:util'

/** What a text is fitted to: columns of the terminal, and whether it shows colours. */
export interface Screen {
  readonly width: number
  readonly colours: boolean
}

/** The screen of standard output. Where it is no terminal lines are as long as they are, and without colours, so that other programs can read them. */
export function screenOf(stream: { isTTY?: boolean; columns?: number } = process.stdout, environment: NodeJS.ProcessEnv = process.env): Screen {
  const isTerminal = stream.isTTY === true
  const colours = isTerminal && (environment['NO_COLOR'] ?? '') === '' && environment['TERM'] !== 'dumb'
  return { width: isTerminal ? Math.max(40, stream.columns ?? 80) : Number.POSITIVE_INFINITY, colours }
}

export function paint(style: Parameters<typeof styleText>[0], text: string, { colours }: Screen): string {
  return colours ? styleText(style, text, { validateStream: false }) : text
}

const GAP = '  '
/** No column is made narrower than this. */
const NARROWEST = 6

function cellText(value: unknown): string {
  if (value === null || value === undefined) return '–'
  if (value instanceof Date) return value.toISOString()
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)))
  if (typeof value === 'object') return JSON.stringify(value)
  // Names come from everywhere: no control character of theirs reaches the terminal.
  return String(value).replace(/\p{Cc}/gu, '�')
}

function shorten(text: string, width: number): string {
  const letters = [...text]
  return letters.length <= width ? text : `${letters.slice(0, Math.max(0, width - 1)).join('')}…`
}

const lengthOf = (text: string) => [...text].length

/** The widths of columns: the widest are cut until all of them fit. */
function widthsOf(rows: readonly (readonly string[])[], total: number): number[] {
  const widths = (rows[0] ?? []).map((_, n) => Math.max(...rows.map((row) => lengthOf(row[n] ?? ''))))
  const room = total - GAP.length * Math.max(0, widths.length - 1)
  while (widths.reduce((sum, width) => sum + width, 0) > room) {
    const widest = widths.indexOf(Math.max(...widths))
    if ((widths[widest] as number) <= NARROWEST) break
    widths[widest] = (widths[widest] as number) - 1
  }
  return widths
}

type Row = Readonly<Record<string, unknown>>

/** Rows under their headings; numbers stand to the right. */
export function table(rows: readonly Row[], screen: Screen, columns = [...new Set(rows.flatMap((row) => Object.keys(row)))]): string {
  if (rows.length === 0) return paint('dim', 'none', screen)
  const cells = rows.map((row) => columns.map((column) => cellText(row[column])))
  const isNumber = columns.map((column) => rows.every((row) => row[column] === null || row[column] === undefined || typeof row[column] === 'number'))
  const widths = widthsOf([columns, ...cells], screen.width)
  const line = (texts: readonly string[]) =>
    texts
      .map((text, n) => {
        const width = widths[n] as number
        const fitted = shorten(text, width)
        const padding = ' '.repeat(Math.max(0, width - lengthOf(fitted)))
        return isNumber[n] === true ? padding + fitted : fitted + padding
      })
      .join(GAP)
      .trimEnd()
  return [paint('bold', line(columns), screen), ...cells.map(line)].join('\n')
}

function isRows(value: unknown): value is readonly Row[] {
  return Array.isArray(value) && value.length > 0 && value.every((one) => one !== null && typeof one === 'object' && !Array.isArray(one))
}

/** A value as a human reads it: lists as tables, objects as names with their values, lists within them as tables below. */
export function render(value: unknown, screen: Screen): string {
  if (typeof value === 'string') return value
  if (isRows(value)) return table(value, screen)
  if (Array.isArray(value)) return value.length === 0 ? paint('dim', 'none', screen) : value.map(cellText).join('\n')
  if (value === null || typeof value !== 'object') return cellText(value)
  // What has a form of its own for JSON has its getters there.
  const plain = JSON.parse(JSON.stringify(value)) as Row
  const fields = Object.entries(plain).filter(([, one]) => !isRows(one))
  const tables = Object.entries(plain).filter(([, one]) => isRows(one))
  const names = Math.max(0, ...fields.map(([name]) => lengthOf(name)))
  const lines = fields.map(([name, one]) => {
    const text = Array.isArray(one) && one.every((each) => typeof each !== 'object') ? one.map(cellText).join(', ') || 'none' : cellText(one)
    return `${paint('bold', name.padEnd(names), screen)}${GAP}${shorten(text, screen.width - names - GAP.length)}`
  })
  return [
    ...(lines.length > 0 ? [lines.join('\n')] : []),
    ...tables.map(([name, one]) => `${paint('bold', name, screen)}\n${table(one as Row[], screen)}`),
  ].join('\n\n')
}

/** Rows for people under these headings. */
export function rowsUnder(heads: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  return table(
    rows.map((row) => Object.fromEntries(row.map((cell, column) => [heads[column] as string, cell]))),
    screenOf(),
    [...heads],
  )
}

export function utcText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`
}
