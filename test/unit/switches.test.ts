import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const SRC = fileURLToPath(new URL('../../src/', import.meta.url))

/** The last lines of every switch, by its indentation: the formatter puts its closing brace below the word. */
function endsOfSwitches(text: string): string[] {
  return [...text.matchAll(/^( *)switch \(.*\n([\s\S]*?)^\1\}$/gm)].map(([, , body = '']) => body.split(/^ *(?=case |default:)/m).at(-1) as string)
}

/** Whether the compiler finds a case that is missing. */
function isClosed(last: string): boolean {
  return /^default:\n? *.*satisfies never\b/.test(last)
}

test('every switch of src ends in never', () => {
  const texts = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => readFileSync(join(SRC, file), 'utf8'))
  const ends = texts.flatMap(endsOfSwitches)
  expect(ends).toHaveLength(texts.join('\n').match(/^ *switch \(/gm)?.length ?? 0)
  expect(ends.length).toBeGreaterThan(10)
  expect(ends.filter((last) => !isClosed(last))).toEqual([])
})

test('a switch without never is found', () => {
  const closed = (cases: string) => endsOfSwitches(`  switch (a) {\n    case 1:\n      break\n${cases}  }\n`).map(isClosed)
  expect(closed('')).toEqual([false])
  expect(closed('    default:\n      stop()\n')).toEqual([false])
  expect(closed('    default:\n      a satisfies never\n')).toEqual([true])
})
