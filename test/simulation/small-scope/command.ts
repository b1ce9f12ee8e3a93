import { RealServer } from '../world/server.js'
import { exploreScope, replayPath, type ScopeResult } from './main.js'
import { THEN } from './replay.js'
import { SCOPES, scopeOf } from './scopes.js'

export interface SmallScopeOptions {
  /** The name of one scope; default: all. */
  readonly scope?: string
  /** The folder whose `dist/src` is the compiled program. */
  readonly program: string
  /** As far as `npm test` goes; default: until the scope is complete. */
  readonly quick: boolean
  /** A path, as a report names it: the state is printed after each of its actions. */
  readonly replay?: string
  readonly json: boolean
  /** Ends with the first report that no known fault explains. */
  readonly stopAtFirst: boolean
}

/** Tries all that can happen in small fleets. @returns the exit code: 1 where something was found that is not known */
export async function smallScope({ scope, program, quick, replay, json, stopAtFirst }: SmallScopeOptions): Promise<number> {
  if (replay !== undefined) {
    if (scope === undefined) throw new Error('a replay needs the name of its scope')
    return (await replayPath(scope, replay, program, (text) => console.log(text))) ? 0 : 1
  }
  let unknown = 0
  const server = await RealServer.start()
  try {
    for (const { name, quick: few, full } of scope === undefined ? SCOPES : [scopeOf(scope)]) {
      const result = await exploreScope(name, { program, maxStates: quick ? few : full, server, stopAtFirst })
      const surprises = result.reports.filter(({ known }) => known === undefined)
      if (json) for (const { text, path } of surprises) console.log(JSON.stringify({ oracle: 'small scope', scope: name, text, path, seconds: result.seconds }))
      else console.log(textOf(result))
      unknown += surprises.length
      if (stopAtFirst && unknown > 0) break
    }
  } finally {
    server.stop()
  }
  return unknown === 0 ? 0 : 1
}

function textOf({ scope, states, transitions, complete, fairCompletions, seconds, reports, notFound }: ScopeResult): string {
  const count = (n: number) => n.toLocaleString('en')
  const size = `${count(states).padStart(9)} states ${count(transitions).padStart(9)} transitions ${count(fairCompletions).padStart(6)} ends`
  const speed = `${seconds.toFixed(1).padStart(6)} s (${count(Math.round(transitions / seconds))}/s)`
  return [
    `${scope.padEnd(22)}${size} ${speed} ${complete ? 'complete' : 'not complete'}`,
    ...reports.flatMap(({ text, times, path, known }) => [
      known === undefined ? `  FOUND ${text} (${times}×)` : `  known ${text} (${times}×): ${known}`,
      `    ${path.join(THEN)}`,
    ]),
    ...notFound.map(({ name, path }) => `  the known fault "${name}" is not shown any more by its path; take it off the list: ${path}`),
  ].join('\n')
}
