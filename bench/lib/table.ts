import type { Figure } from './measure.js'

const WIDTHS = [12, 11, 24] as const

function line(ok: string, value: string, bar: string, what: string, how: string): string {
  const columns = [ok, value, bar].map((text, index) => text.padEnd(WIDTHS[index] as number)).join('  ')
  return `${columns}  ${what}\n${' '.repeat(columns.length)}    ${how}`
}

/** Whole numbers as they are, others with four digits: a run is no more precise. */
export function show(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString('en') : value.toPrecision(4)
}

export const HEAD = line('ok', 'value', 'bar', 'what', 'how')

export function row({ what, value, bar, ok, detail }: Figure): string {
  if (value === null) return line('not measured', '-', bar, what, detail)
  return line(ok ? 'yes' : 'NO', show(value), bar, what, detail)
}

/** All figures, and the number of bars met. */
export function table(figures: readonly Figure[]): string {
  const unknown = figures.filter(({ value }) => value === null).length
  const met = figures.filter(({ ok }) => ok).length
  const sum = `${met} of ${figures.length} bars met${unknown === 0 ? '' : `, ${unknown} not measured`}`
  return [HEAD, ...figures.map(row), '', sum].join('\n')
}
