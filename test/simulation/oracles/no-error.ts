import type { Fact, Report } from './facts.js'

/** No error: nothing that the program itself calls broken. */
export function noError(facts: readonly Fact[]): Report[] {
  return facts.flatMap((fact): Report[] =>
    fact.fact === 'error' ? [{ oracle: 'no error', atMs: fact.atMs, text: `${fact.process} says that it is broken: ${fact.text}`, calls: [] }] : [],
  )
}
