import { readFile } from 'node:fs/promises'

/** One request of a recorded trace. */
export interface Traced {
  /** In ms from the first one. */
  readonly atMs: number
  readonly contextTokens: number
  readonly generatedTokens: number
}

const HEADER = 'TIMESTAMP,ContextTokens,GeneratedTokens'

function time(text: string): number {
  return Date.parse(`${text.trim().replace(' ', 'T')}${/(Z|[+-]\d\d:?\d\d)$/.test(text) ? '' : 'Z'}`)
}

/** Reads a trace in the form of the Azure LLM inference dataset. @throws Error naming file and line */
export async function readTrace(file: string): Promise<Traced[]> {
  const [header = '', ...lines] = (await readFile(file, 'utf8')).split(/\r?\n/)
  if (header.replace(/^\uFEFF/, '') !== HEADER) throw new Error(`${file}:1: must be ${HEADER} (got ${header.slice(0, 80)})`)
  const rows = lines.flatMap((line, index) => {
    if (line === '') return []
    const [timestamp = '', context = '', generated = '', ...more] = line.split(',')
    const row = { atMs: time(timestamp), contextTokens: Number(context), generatedTokens: Number(generated) }
    const good = more.length === 0 && /^\d+$/.test(context) && /^\d+$/.test(generated) && !Number.isNaN(row.atMs)
    if (!good) throw new Error(`${file}:${index + 2}: must be a time and two counts of tokens (got ${line.slice(0, 80)})`)
    return [row]
  })
  const first = rows.reduce((least, { atMs }) => Math.min(least, atMs), Number.POSITIVE_INFINITY)
  if (rows.length === 0) throw new Error(`${file}: has no requests`)
  return rows.map((row) => ({ ...row, atMs: row.atMs - first })).sort((a, b) => a.atMs - b.atMs)
}
