import { exploreScope, replayPath, type ScopeResult } from './main.js'
import { SCOPES, scopeOf } from './scopes.js'

export interface SmallScopeOptions {
  /** The name of one scope; default: all. */
  readonly scope?: string
  readonly program: string
  /** As far as `npm test` goes; default: until the scope is complete. */
  readonly quick: boolean
  /** A path, as a report names it: the state is printed after each of its actions. */
  readonly replay?: string
  readonly json: boolean
  readonly stopAtFirst: boolean
}

/** Tries all that can happen in small fleets. @returns the exit code: 1 where something was found that is not known */
export async function smallScope({ scope, program, quick, replay, json, stopAtFirst }: SmallScopeOptions): Promise<number> {
  if (replay !== undefined) return (await replayPath(scopeOf(scope ?? '').name, replay, program, (text) => console.log(text))) ? 0 : 1
  let unknown = 0
  for (const { name, quick: few, full } of scope === undefined ? SCOPES : [scopeOf(scope)]) {
    const result = await exploreScope(name, { program, maxStates: quick ? few : full })
    const surprises = result.reports.filter(({ known }) => known === undefined)
    if (json) for (const { text, path } of surprises) console.log(JSON.stringify({ oracle: 'small scope', scope: name, text, path, seconds: result.seconds }))
    else console.log(textOf(result))
    unknown += surprises.length
    if (stopAtFirst && unknown > 0) break
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
