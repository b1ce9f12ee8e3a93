import type { Command } from 'commander'
import { TollgateError } from '../model/errors.js'
import type { Tollgate } from '../tollgate.js'
import { type Common, common, examples, parseCall, withTollgate } from './common.js'

/** So many calls of a file are enqueued at once. */
const ENQUEUED_AT_ONCE = 500

/** Enqueues the calls of a file, one in JSON per line, and shows how far it is. */
async function enqueueFile(tollgate: Tollgate, file: string) {
  const [{ readFile }, { ProgressBar }] = await Promise.all([import('node:fs/promises'), import('./progress.js')])
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new TollgateError('REQUEST_INVALID', `file: ${file} cannot be read (${cause.code ?? String(cause)})`)
  })
  const lines = text.split('\n').filter((line) => line.trim() !== '')
  const calls = await Promise.all(
    lines.map((line, n) =>
      parseCall(line).catch((error: unknown) => {
        if (!(error instanceof TollgateError)) throw error
        throw new TollgateError(error.code, `${file}:${n + 1}: ${error.message}`)
      }),
    ),
  )
  const bar = new ProgressBar(calls.length, 'calls')
  const refused: { line: number; code: string; message: string }[] = []
  bar.to(0)
  for (let from = 0; from < calls.length; from += ENQUEUED_AT_ONCE) {
    const tickets = await tollgate.enqueueMany(calls.slice(from, from + ENQUEUED_AT_ONCE))
    for (const [n, { error }] of tickets.entries()) if (error !== undefined) refused.push({ line: from + n + 1, code: error.code, message: error.message })
    bar.to(Math.min(calls.length, from + ENQUEUED_AT_ONCE))
  }
  return { prints: { enqueued: calls.length - refused.length, refused }, ok: refused.length === 0 }
}

export function callCommands(program: Command): void {
  examples(
    common(
      program
        .command('enqueue [call]')
        .description('enqueue a call, given as JSON, or those of a file')
        .option('--wait', 'wait for its result')
        .option('--file <file>', 'enqueue the calls of a file, one in JSON per line'),
    ),
    `enqueue '{"agent":"openai","payload":{"model":"gpt-4o-mini","messages":[]}}' --wait`,
    'enqueue --file calls.ndjson',
  ).action(async (text: string | undefined, options: Common & { wait?: boolean; file?: string }) => {
    const { file } = options
    if ((text === undefined) === (file === undefined)) throw new TollgateError('REQUEST_INVALID', 'enqueue: give one call, or --file with calls')
    const call = text === undefined ? undefined : await parseCall(text)
    await withTollgate(options, async (tollgate) => {
      if (call === undefined) return enqueueFile(tollgate, file as string)
      const ticket = await tollgate.enqueue(call)
      const { id, decision } = ticket
      return { prints: options.wait === true ? { id, result: await ticket.result() } : { id, decision } }
    })
  })

  examples(
    common(program.command('check <call>').description('what the gate would decide on a call; charges nothing')),
    `check '{"agent":"openai","user":"ann"}' && echo there is room`,
  ).action(async (text: string, options: Common) => {
    const call = await parseCall(text)
    await withTollgate(options, async (tollgate) => {
      const answer = await tollgate.gate.peek(call)
      return { prints: answer, ok: answer.allowed }
    })
  })

  examples(
    common(program.command('explain <id>').description('where a call stands, what it waits for, and for how long')),
    'explain 7c9e6679-7425-40de-944b-e07fc1f90ae7',
  ).action((id: string, options: Common) => withTollgate(options, async (tollgate) => ({ prints: await tollgate.explain(id) })))

  examples(common(program.command('cancel <id>').description('take a call back')), 'cancel 7c9e6679-7425-40de-944b-e07fc1f90ae7').action(
    (id: string, options: Common) =>
      withTollgate(options, async (tollgate) => {
        const cancelled = await tollgate.cancel(id)
        return { prints: { id, cancelled }, ok: cancelled }
      }),
  )
}
