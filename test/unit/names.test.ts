import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { REFUSED_WORDS } from '../support/refused-words.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** The text of a file by its path. */
type Sources = ReadonlyMap<string, string>

/** The sources under paths of the repository: folders, or single files. */
function sourcesOf(...paths: readonly string[]): Sources {
  const files = paths.flatMap((path) =>
    statSync(join(ROOT, path)).isFile() ? [path] : readdirSync(join(ROOT, path), { recursive: true, encoding: 'utf8' }).map((file) => `${path}/${file}`),
  )
  return new Map(files.filter((file) => /\.(ts|lua|mjs)$/.test(file)).map((file) => [file, readFileSync(join(ROOT, file), 'utf8')]))
}

const DECLARATION = /^(export )?(?:default |declare |abstract |const |async )*(interface|type|class|enum|function\*?) ([\w$]+)/gm

/** Names that are declared in more than one file, where one of the declarations is a type or an exported function. */
function namesTwice(sources: Sources): string[] {
  const declared = new Map<string, { files: Set<string>; shared: boolean }>()
  for (const [file, text] of sources) {
    for (const [, exported, kind = '', name = ''] of text.matchAll(DECLARATION)) {
      const known = declared.get(name) ?? { files: new Set(), shared: false }
      known.files.add(file)
      known.shared ||= exported !== undefined || !kind.startsWith('function')
      declared.set(name, known)
    }
  }
  return [...declared].filter(([, { files, shared }]) => shared && files.size > 1).map(([name, { files }]) => `${name}: ${[...files].join(', ')}`)
}

/** The comments of a source, each without its marks and line breaks. */
function commentsOf(file: string, text: string): string[] {
  const mark = file.endsWith('.lua') ? /^--+|(?<=\s)--+/ : /^(\/\/|\/\*+|\*+\/?)|(?<=\s)\/\/(?=\s)/
  const comments: string[] = []
  let before = -1
  for (const [number, line] of text.split('\n').entries()) {
    const trimmed = line.trim()
    const [found] = mark.exec(trimmed) ?? []
    if (found === undefined) continue
    const comment = trimmed.slice(trimmed.search(mark) + found.length).trim()
    if (before === number - 1 && comments.length > 0) comments.push(`${comments.pop()} ${comment}`)
    else comments.push(comment)
    before = number
  }
  return comments
}

/** Refused words in comments, as "file: word". */
function refusedWords(sources: Sources): string[] {
  return [...sources].flatMap(([file, text]) =>
    commentsOf(file, text).flatMap((comment) => [...comment.matchAll(REFUSED_WORDS)].map(([word]) => `${file}: ${word.toLowerCase()}`)),
  )
}

/** Everything that is written here has its comments read. */
const WORDED = ['src', 'lua', 'testing', 'test', 'bench', 'examples', 'scripts']

test('in src a type or an exported function is declared once: one name, one meaning', () => {
  const sources = sourcesOf('src')
  expect(sources.size).toBeGreaterThan(50)
  expect(namesTwice(sources)).toEqual([])
})

test('a name that is declared twice is found', () => {
  const planted = (...texts: string[]) => namesTwice(new Map(texts.map((text, index) => [`${index}.ts`, text])))
  expect(planted('interface Same {}', 'export type Same = string')).toEqual(['Same: 0.ts, 1.ts'])
  expect(planted('export abstract class Same {}', '\nexport const enum Same {}')).toHaveLength(1)
  expect(planted('export async function same() {}', 'function same() {}')).toHaveLength(1)
  expect(planted('function own() {}', 'function own() {}')).toEqual([])
  expect(planted('export function over(a: string): void\nexport function over(a: number): void\n')).toEqual([])
})

test.each(WORDED)('the comments of %s name what they are about', (path) => {
  const sources = sourcesOf(path)
  expect(sources.size).toBeGreaterThan(0)
  expect(refusedWords(sources)).toEqual([])
})

test('a refused word is found in every form of comment, and in nothing else', () => {
  const found = (file: string, text: string) => refusedWords(new Map([[file, text]]))
  expect(found('a.ts', '/** Tells whoever waits. */')).toEqual(['a.ts: whoever'])
  expect(found('a.ts', '/**\n * What was\n * said, to those\n * who wait.\n */')).toEqual(['a.ts: what was said', 'a.ts: those who'])
  const slashes = '//'
  expect(found('a.ts', `wait() ${slashes} Nobody waits.\nfail('nobody knows')`)).toEqual(['a.ts: nobody'])
  expect(found('a.lua', '-- Of whom\nlocal a = 1 -- nobody\nlocal nobody = 2')).toEqual(['a.lua: of whom', 'a.lua: nobody'])
  expect(found('a.ts', 'const url = "http://nobody"\n')).toEqual([])
})
