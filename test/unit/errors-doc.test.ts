import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ERRORS, type ErrorCode, TollgateError } from '../../src/model/errors.js'
import { HEALTH_REASONS } from '../../src/model/health-reason.js'
import { WAIT_REASONS } from '../../src/model/wait-reason.js'

/** The rows of the table as [code, status, retryable, what, what to do]. */
function tableOf(text: string): string[][] {
  const rows = text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.slice(1, -1).split('|'))
  return rows.map((row) => row.map((cell) => cell.trim()))
}

const documented = tableOf(readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8'))

test('docs/errors.md lists the errors of the catalogue in its order, and no others', () => {
  const catalogue = Object.entries(ERRORS).map(([code, { status, retryable, what, todo }]) => [
    `\`${code}\``,
    String(status),
    retryable ? 'yes' : 'no',
    what,
    todo,
  ])
  expect(documented).toEqual(catalogue)
})

test('docs/calls.md lists the reasons to wait in their order, and no others', () => {
  const text = readFileSync(new URL('../../docs/calls.md', import.meta.url), 'utf8')
  const [, table = ''] = text.split('| reason | the call waits for | what to do |')
  const rows = tableOf(table.split('\n\n')[0] ?? '')
  expect(rows).toEqual(Object.entries(WAIT_REASONS).map(([code, { what, todo }]) => [`\`${code}\``, what, todo]))
})

test('docs/health.md lists the reasons of the verdict in their order, and no others', () => {
  const text = readFileSync(new URL('../../docs/health.md', import.meta.url), 'utf8')
  const [, table = ''] = text.split('| reason | state | what it means | what to do |')
  const rows = tableOf(table.split('\n\n')[0] ?? '')
  expect(rows).toEqual(Object.entries(HEALTH_REASONS).map(([code, { state, what, todo }]) => [`\`${code}\``, state, what, todo]))
})

test('every error has a description and a remedy in whole sentences, and a status of 4xx or 5xx', () => {
  for (const [code, { status, what, todo }] of Object.entries(ERRORS)) {
    expect(code).toMatch(/^[A-Z]+(_[A-Z]+)*$/)
    expect(status).toBeGreaterThanOrEqual(400)
    expect(status).toBeLessThan(600)
    expect(what).toMatch(/^[A-Z`].*\.$/)
    expect(todo).toMatch(/^[A-Z`].*\.$/)
  }
})

test('an error has the status, retryable and todo of its code in the catalogue', () => {
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    const error = new TollgateError(code, 'why')
    expect({ status: error.status, retryable: error.retryable, todo: error.todo }).toEqual({
      status: ERRORS[code].status,
      retryable: ERRORS[code].retryable,
      todo: ERRORS[code].todo,
    })
    expect([error.code, error.message, error.name]).toEqual([code, 'why', 'TollgateError'])
  }
})
