import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { expect, test } from 'vitest'

const SRC = fileURLToPath(new URL('../../src/', import.meta.url))

/** The switches of a source, each as whether it ends in `never`: then the compiler finds a case that is missing. */
function switchesOf(text: string): boolean[] {
  const found: boolean[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isSwitchStatement(node)) {
      const last = node.caseBlock.clauses.at(-1)
      found.push(last !== undefined && ts.isDefaultClause(last) && /satisfies never\b/.test(last.getText()))
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile('a.ts', text, ts.ScriptTarget.Latest, true))
  return found
}

test('every switch of src ends in never', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  const switches = files.flatMap((file) => switchesOf(readFileSync(join(SRC, file), 'utf8')).map((closed) => ({ file, closed })))
  expect(switches.length).toBeGreaterThan(10)
  expect(switches.filter(({ closed }) => !closed)).toEqual([])
})

test('a switch without never is found', () => {
  expect(switchesOf('switch (a) { case 1: break }')).toEqual([false])
  expect(switchesOf('switch (a) { case 1: break; default: stop() }')).toEqual([false])
  expect(switchesOf('switch (a) { case 1: break; default: a satisfies never }')).toEqual([true])
})
