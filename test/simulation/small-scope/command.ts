import { parseArgs } from 'node:util'
import { exploreScope, replayPath, type ScopeResult } from './main.js'
import { SCOPES, scopeOf } from './scopes.js'

const USAGE = `--small-scope [scope]   tries all that can happen in a small fleet; without a name in every scope:
${SCOPES.map(({ name, about }) => `    ${name.padEnd(22)} ${about}`).join('\n')}
  --quick                as far as npm test goes; default: until the scope is complete
  --states N             visits N states at most
  --program root         explores the program that is compiled in root/dist/src; default: the folder of this call
  --replay 'a > b > c'   prints the state after each action of a path, as a report names it
  --json                 prints one JSON object per scope`

/** @param args what comes after --small-scope @returns the exit code: 1 where something was found that is not known */
export async function smallScope(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      states: { type: 'string' },
      program: { type: 'string', default: process.cwd() },
      replay: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const { quick, states, program, replay, json, help } = values
  if (help) {
    console.log(USAGE)
    return 0
  }
  const scopes = positionals.length === 0 ? SCOPES : positionals.map(scopeOf)
  if (replay !== undefined) {
    const [scope] = scopes
    if (scope === undefined || positionals.length !== 1) throw new Error('--replay needs the name of one scope')
    return (await replayPath(scope.name, replay, program, (text) => console.log(text))) ? 0 : 1
  }
  let unknown = 0
  for (const { name, quick: few, full } of scopes) {
    const result = await exploreScope(name, { program, maxStates: states === undefined ? (quick ? few : full) : Number(states) })
    console.log(json ? JSON.stringify(result) : textOf(result))
    unknown += result.reports.filter(({ known }) => known === undefined).length
  }
  return unknown === 0 ? 0 : 1
}

function textOf({ scope, states, transitions, complete, fairCompletions, seconds, reports, notFound }: ScopeResult): string {
  const count = (n: number) => n.toLocaleString('en').padStart(9)
  const perSecond = Math.round(transitions / seconds).toLocaleString('en')
  const head = `${scope.padEnd(22)}${count(states)} states ${count(transitions)} transitions ${count(fairCompletions)} ends  ${seconds.toFixed(1).padStart(6)} s (${perSecond}/s)  ${complete ? 'complete' : 'not complete'}`
  return [
    head,
    ...reports.flatMap(({ text, times, path, known }) => [
      `  ${known === undefined ? 'FOUND' : 'known'}: ${text} (${times}×)${known === undefined ? '' : `: ${known}`}`,
      `    ${path.join(' > ')}`,
    ]),
    ...notFound.map(({ reason }) => `  a known fault was not found any more, take it off the list: ${reason}`),
  ].join('\n')
}
